"""The open run: which one, its statistics, and which bank and expert of it a person looks at."""

from __future__ import annotations

from pathlib import Path

from dashboard.state import folders
from dashboard.state.address import chosen, put, to_run, wanted_run
from dashboard.state.folders import BUNDLED, NoRunError, RunEntry, entry, has_bundled, runs
from dashboard.state.remembered import remembered
from mode_core.run import Run
from mode_core.statistics import ExpertStatistics


def open_run(run: str | Path) -> None:
    """Show this run from now on: one that `runs()` lists, by name or by folder.

    Raises:
        NoRunError: there is no such run.
    """
    folder = Path(run)
    found = entry(BUNDLED if folder == folders.BUNDLED_RUN else folder.name)
    to_run(None if found.name == BUNDLED else found.name)


def run_entry() -> RunEntry:
    """Which run is open: the one in the URL, else the bundled one, else the newest.

    Raises:
        NoRunError: none at all, or the one asked for is gone.
    """
    if wanted := wanted_run():
        return entry(wanted)
    if has_bundled():
        return RunEntry(BUNDLED, folders.BUNDLED_RUN)
    if not (known := runs()):
        raise NoRunError("There is no run yet. Calibrate a model on some samples; the result opens by itself.")
    return known[0]


def run() -> Run:
    """The open run.

    Raises:
        NoRunError: there is none.
        RunError: its folder is damaged; the text names the file.
    """
    key = run_key()
    return _opened(key, key[0])


def run_named(name: str) -> Run:
    """Another run beside the open one, by a name of `runs()`; raises as `run` does."""
    key = key_of(entry(name))
    return _opened(key, key[0])


def run_key() -> tuple[str, int]:
    """Which run in which state: its folder and the time of its last change; the key of every cache of results."""
    return key_of(run_entry())


def key_of(found: RunEntry) -> tuple[str, int]:
    """The same for any run."""
    path = str(found.path)
    return path, max(changed(f"{path}/{file}") for file in ("run.json", "statistics.safetensors"))


def changed(path: str) -> int:
    """When a file was last changed, in nanoseconds; 0 where there is none. Asked at every step of a drag."""
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:
        return 0


@remembered(4, "Opening the run …")
def _opened(key: tuple[str, int], path: str) -> Run:
    return Run.open(path)


def statistics() -> ExpertStatistics:
    """What calibration measured; the same object as long as the run does not change.

    Raises:
        NoRunError: the run has none yet (calibration was stopped before its first sample).
    """
    found = run().statistics
    if found is None or not (found.samples or "origin" in found.settings):  # imported ones name no samples
        raise NoRunError(
            f"The run {run_entry().label!r} has no finished sample: its calibration was stopped before the first "
            "one. Calibrate again, or open another run."
        )
    return found


def writable() -> bool:
    """May results be kept in the open run? The bundled one stays as it came."""
    return run_entry().name != BUNDLED


def selected() -> tuple[str, int]:
    """(bank name, expert) that the person looks at; the first ones until they choose."""
    banks = list(statistics().banks)
    name = banks[chosen("bank", range(len(banks)), 0)]
    return name, chosen("expert", range(statistics().banks[name].shape.experts), 0)


def select(bank: str | None = None, expert: int | None = None) -> None:
    """Look at another bank (by name) or expert; the URL follows."""
    if bank is not None:
        put(bank=str(list(statistics().banks).index(bank)))
    if expert is not None:
        put(expert=str(expert))
