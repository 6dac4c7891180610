"""Which models may be read: the one place that says so, asked by whatever reads a file of a model. No Streamlit."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from dashboard.state import folders
from mode_core.models.errors import ModelError

ROOTS = "MODE_MODELS"  # environment variable: folders below which models may be read; unset: anywhere


def roots() -> tuple[Path, ...] | None:
    """The folders below which models may be read; None where any may be.

    Only whole paths count: where MODE_MODELS is set but names none (empty, ":", relative), nothing may be read but the
    bundled model.
    """
    return None if os.environ.get(ROOTS) is None else folders.named_by(ROOTS)


def is_hub_id(source: str) -> bool:
    """Is it the name of a model on the hub, which transformers finds or fetches by itself, and no folder here?"""
    from mode_core.models.folders import HUB_ID

    return bool(HUB_ID.fullmatch(source)) and not Path(source).parent.exists()


def allowed(source: str) -> str:
    """The source, `~` resolved, if it may be read with all the files that belong to it.

    Raises:
        ModelError: it, or a file that it links to or names, lies outside of every allowed folder; or a hub id where
            folders are limited, since what it names lies in none of them.
    """
    below = roots()
    if is_hub_id(source):
        if below is None:
            return source
        raise ModelError(f"{source} is fetched from the hub, but {limits()} Give the path of a folder there.")
    place = os.path.expanduser(source)  # noqa: PTH111 (Path's own raises for an unknown user)
    if below is None:
        return place
    inside = (*below, folders.BUNDLED_MODEL.resolve())
    try:
        outside = next((path for path in _reached(Path(place)) if not _is_below(path, inside)), None)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as unreadable:
        raise ModelError(f"{source} may not be read: it cannot be checked ({unreadable}).") from unreadable
    if outside is not None:
        what = "" if outside == Path(place) else f"it leads to {outside.name}, which lies elsewhere: "
        raise ModelError(f"{source} may not be read: {what}{limits()}")
    return place


def folder_of(source: str | None) -> Path | None:
    """The folder of a model on this machine: of a hub id its snapshot in the hub's cache. None where it is not here."""
    if not source or not is_hub_id(source):
        return Path(source) if source and (Path(source) / "config.json").is_file() else None
    from mode_core.models.folders import cached_folder

    return cached_folder(source)


def not_here(source: str | None, so: str) -> str:
    """That a run's model is not on this machine, what follows, and what to do, in sentences."""
    what = source or "the run does not name it"
    if source and is_hub_id(source):
        do = f"Fetch it with “hf download {source}”, then load this page again."
    else:
        do = "Put its folder back there, or do it at the command line, which takes another folder by --model."
    return f"The model of this run is not on this machine ({what}), so {so}. {do}"


def limits() -> str:
    """The rule as a sentence."""
    below = roots() or ()
    return f"this dashboard reads models below {' and '.join(map(str, below))} only." if below else (
        f"this dashboard reads the bundled model only ({ROOTS} names no folder by its whole path)."
    )  # fmt: skip


def _is_below(path: Path, inside: tuple[Path, ...]) -> bool:
    found = path.resolve()
    return any(found.is_relative_to(root) for root in inside)


def _reached(folder: Path) -> Iterator[Path]:
    """The folder, its files, and those that its weight indices name."""
    yield folder
    if not (folder / "config.json").is_file():
        return  # no model: nothing more of it is read
    yield from folder.rglob("*")
    for index in folder.glob("*.index.json"):
        yield from (folder / str(name) for name in json.loads(index.read_bytes())["weight_map"].values())
