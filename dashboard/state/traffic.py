"""Profiles of what was served, kept beside the runs for every run of their model; the file's name is its digest."""

from __future__ import annotations

import tempfile
from pathlib import Path

from dashboard.state import folders
from mode_core.statistics import ExpertStatistics
from mode_core.traffic import OtherModelError, TrafficError, TrafficProfile, read_traffic, token_ids

SUFFIXES = ("jsonl", "json", "pt")


def file_of(digest: str) -> Path:
    """Where a profile of this digest is kept; no run can have this folder's name."""
    return folders.runs_folder() / ".traffic" / f"{digest}.json"


def kept(statistics: ExpertStatistics, damaged: dict[str, str]) -> list[TrafficProfile]:
    """Those that fit a run, by name; of other models' there is nothing to choose. What cannot be read is added to
    `damaged`: file → why."""
    found = []
    for path in sorted(file_of("*").parent.glob("*.json")):
        try:
            found.append(TrafficProfile.load(path, statistics))
        except OtherModelError:
            continue
        except TrafficError as refused:
            damaged[path.name] = str(refused)
    return sorted(found, key=lambda profile: profile.name)


def keep(name: str, content: bytes, statistics: ExpertStatistics, source: str | None, trusted: bool) -> TrafficProfile:
    """Count an uploaded trace of the run's model, which lies at `source`, and keep the counts alone.

    Raises:
        TrafficError: it cannot be read, or is another model's; the text names the upload.
    """
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / Path(name).name
        path.write_bytes(content)
        try:
            profile = read_traffic(path, statistics, *token_ids(source, trusted))
        except TrafficError as refused:
            raise TrafficError(str(refused).replace(f"{place}/", "")) from None
    profile.save(file_of(profile.digest))
    return profile
