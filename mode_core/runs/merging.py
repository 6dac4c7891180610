"""Several runs of one model become one: their samples together, without running the model again."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

from mode_core.runs.records import TOKEN_ROUTES, TOKEN_SCORES, told_of_videos
from mode_core.runs.run import Run, RunError
from mode_core.statistics import ExpertStatistics, StatisticsError
from mode_core.statistics.exemplars import Exemplars, ExemplarsError
from mode_core.statistics.imatrix import InputEnergies


def merge_runs(runs: Sequence[Run], path: str | Path) -> Run:
    """A new run at `path` that holds the samples of all of them: statistics added, exemplars the best of all, the
    kept pictures, token scores and routes of the first. Allocations and evaluations are not taken over, since they
    followed from fewer samples.

    Raises:
        RunError: fewer than two runs, one without statistics, another model or other settings, a sample that is in
            two of them, or a folder that is not empty; nothing is left behind then.
    """
    if len(runs) < 2:
        raise RunError("Choose at least two runs to merge.")
    statistics = _added(runs)
    merged = Run.create(path)
    try:
        _copy_samples(runs[0], merged)
        if (exemplars := _exemplars(runs, merged)) is not None:
            exemplars.save(merged.path)
        if (energies := _energies(runs)) is not None:
            energies.save(merged.path)
        merged.write_info({**_info(runs, statistics), "name": merged.path.name, "created": merged.info["created"]})
        merged.write_statistics(statistics, state="done" if all(run.state == "done" for run in runs) else "half done")
    except BaseException:
        shutil.rmtree(merged.path, ignore_errors=True)
        raise
    return merged


def _added(runs: Sequence[Run]) -> ExpertStatistics:
    total: ExpertStatistics | None = None
    for run in runs:
        if run.statistics is None:
            raise RunError(f"The run {run.name!r} has measured nothing yet; leave it out.")
        try:
            total = run.statistics if total is None else total + run.statistics
        except StatisticsError as refused:
            raise RunError(f"The run {run.name!r} cannot be merged with the others. {refused}") from None
    assert total is not None  # there are at least two runs
    return total


def _info(runs: Sequence[Run], statistics: ExpertStatistics) -> dict[str, Any]:
    """What run.json says: the first one's model and settings, tokens and seconds of all."""
    first = runs[0].info
    tokens = [run.info.get("tokens", {}) for run in runs]
    return {
        **{key: first[key] for key in ("format", "model", "settings", "versions") if key in first},
        "state": "begun",
        "merged_from": [run.name for run in runs],
        "samples": {
            "given": sum(run.info.get("samples", {}).get("given", len(run.measured().samples)) for run in runs),
            "measured": len(statistics.samples),
        },
        "refused": [entry for run in runs for entry in run.info.get("refused", [])],
        "tokens": {kind: sum(int(each.get(kind, 0)) for each in tokens) for kind in statistics.modalities},
        **told_of_videos(run.info.get("video_tokens", 0) for run in runs),
        "seconds": sum(float(run.info.get("seconds", 0)) for run in runs),
    }


def _copy_samples(source: Run, target: Run) -> None:
    for name in ("samples.json", TOKEN_SCORES, TOKEN_ROUTES):
        if (source.path / name).is_file():
            shutil.copy2(source.path / name, target.path / name)
    if (source.path / "thumbnails").is_dir():
        shutil.copytree(source.path / "thumbnails", target.path / "thumbnails")


def _energies(runs: Sequence[Run]) -> InputEnergies | None:
    """What entered the matrices, of all; None where some run has none, or settings differ."""
    found = [InputEnergies.load(run.path, run.measured().samples) for run in runs]
    there = [each for each in found if each is not None]
    if len(there) < len(runs) or any(each.settings != there[0].settings for each in there):
        return None
    return reduce(add, there)


def _exemplars(runs: Sequence[Run], target: Run) -> Exemplars | None:
    """The best of all, with the pictures of all; None where some run has none."""
    found = [each for run in runs if (each := run.exemplars()) is not None]
    if len(found) < len(runs):
        return None
    try:
        total = reduce(add, found)
    except ExemplarsError:
        return None
    for each in found:
        if each.folder is not None and each.folder.is_dir():
            shutil.copytree(each.folder, target.path / each.folder.name, dirs_exist_ok=True)
    return total
