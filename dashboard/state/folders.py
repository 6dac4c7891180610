"""Where things lie on this machine: the bundled run, model and samples; the folders of runs and of exports."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from pathlib import Path

from mode_core import bundled
from mode_core.errors import ModeError
from mode_core.runs.run import NAME, Run

_DASHBOARD = Path(__file__).resolve().parents[1]
PAGES = (_DASHBOARD.parent if bundled.IN_CHECKOUT else _DASHBOARD) / "pages"
BUNDLED = "bundled"  # the name of the run that comes with the software
BUNDLED_RUN, BUNDLED_MODEL, CALIBRATION, EVALUATION = (
    bundled.RUN,
    bundled.MODEL,
    bundled.CALIBRATION,
    bundled.EVALUATION,
)


class NoRunError(Exception):
    """There is no run to show yet, or the one asked for is gone; the text says which and what to do."""


@dataclass(frozen=True)
class RunEntry:
    """One run that can be opened: its name in the URL, and its folder."""

    name: str
    path: Path

    @property
    def label(self) -> str:
        """How it is called on the screen."""
        return "bundled example" if self.name == BUNDLED else self.name


def runs_folder() -> Path:
    """Where runs made here are kept (`./runs`, or the environment variable MODE_RUNS)."""
    return Path(os.environ.get("MODE_RUNS") or bundled.HOME / "runs")


_proposed: dict[str, object] = {}  # names of new runs, and whom they were proposed to


def free_name(wish: str) -> str:
    """A name for a new run that nobody has, and that was proposed to nobody else: the wish, else with a number."""
    mine = object()
    names = (wish if number == 1 else f"{wish}-{number}" for number in itertools.count(1))
    return next(n for n in names if not (runs_folder() / n).exists() and _proposed.setdefault(n, mine) is mine)


def exports_folder() -> Path:
    """Where exports are written on request (`./exports`, or the environment variable MODE_EXPORTS)."""
    return Path(os.environ.get("MODE_EXPORTS") or bundled.HOME / "exports")


def named_by(variable: str) -> tuple[Path, ...]:
    """The folders that an environment variable names by their whole paths, resolved; none where it is not set."""
    given = os.environ.get(variable, "").split(os.pathsep)
    return tuple(Path(part).resolve() for part in given if Path(part).is_absolute())


def relative(path: Path) -> str:
    """A path as a person in the repo's folder would type it."""
    return str(path.relative_to(bundled.HOME)) if path.is_relative_to(bundled.HOME) else str(path)


def has_bundled() -> bool:
    """Is the bundled run there?"""
    return (BUNDLED_RUN / "run.json").is_file()


def runs() -> list[RunEntry]:
    """The bundled run, and those in the folder of runs, newest first."""
    found = [RunEntry(BUNDLED, BUNDLED_RUN)] if has_bundled() else []
    own = [path.parent for path in runs_folder().glob("*/run.json") if NAME.fullmatch(path.parent.name)]
    own.sort(key=_changed, reverse=True)
    return found + [RunEntry(path.name, path) for path in own]


def _changed(run: Path) -> float:
    try:
        return (run / "run.json").stat().st_mtime
    except OSError:  # renamed or deleted this moment
        return 0.0


def readable_runs() -> list[Run]:
    """The runs of `runs` that can be opened; damaged ones are named in the table of runs."""
    found = []
    for each in runs():
        try:
            found.append(Run.open(each.path))
        except (ModeError, OSError):
            continue
    return found


def entry(name: str) -> RunEntry:
    """The run of that name; a name is never a path, so an address cannot lead out of the folder of runs.

    Raises:
        NoRunError: there is no such run.
    """
    path = BUNDLED_RUN if name == BUNDLED else runs_folder() / name
    if not NAME.fullmatch(name) or not (path / "run.json").is_file():
        raise NoRunError(f"There is no run called {name!r} any more. Open another one in the sidebar, or calibrate.")
    return RunEntry(name, path)
