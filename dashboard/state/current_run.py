"""The open run: which one, its statistics, and which bank and expert of it a person looks at."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Any

from dashboard.state import address, folders, traffic
from dashboard.state.address import choices, chosen, put, to_run, wanted_run
from dashboard.state.folders import BUNDLED, NoRunError, RunEntry, entry, has_bundled, runs
from dashboard.state.remembered import remembered
from mode_core.errors import RunError
from mode_core.run import Run
from mode_core.statistics import ExpertStatistics
from mode_core.traffic import TrafficError, TrafficProfile, with_traffic

_looked_up: ContextVar[dict | None] = ContextVar("looked up", default=None)


def once(follow: Callable[[], str]) -> Callable[[], str]:
    """The answer to one step of a drag, within which nothing is looked up on the disk twice (it was 200 times)."""

    @wraps(follow)
    def answer() -> str:
        held = _looked_up.set({})
        try:
            return follow()
        finally:
            _looked_up.reset(held)

    return answer


def _once(what: Hashable, look: Callable[[], Any]) -> Any:
    if (held := _looked_up.get()) is None:
        return look()
    if what not in held:
        held[what] = look()
    return held[what]


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
        return _once(wanted, lambda: entry(wanted))
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
    key = key_of(run_entry())
    return _opened(key, key[0])


def run_named(name: str) -> Run:
    """Another run beside the open one, by a name of `runs()`; raises as `run` does."""
    key = key_of(entry(name))
    return _opened(key, key[0])


def run_key() -> tuple[str, int, str]:
    """Which run in which state, with which frequencies: its folder, the time of its last change, and the digest of the
    traffic; the key of every cache of results."""
    key = key_of(run_entry())
    return *key, _served(choices().request.traffic, key)


def key_of(found: RunEntry) -> tuple[str, int]:
    """The same for any run."""
    path = str(found.path)
    return path, max(changed(f"{path}/{file}") for file in ("run.json", "statistics.safetensors"))


def changed(path: str) -> int:
    """When a file was last changed, in nanoseconds; 0 where there is none."""

    def look() -> int:
        try:
            return Path(path).stat().st_mtime_ns
        except OSError:
            return 0

    return _once((path,), look)


@remembered(4, "Opening the run …")
def _opened(key: tuple[str, int], path: str) -> Run:
    return Run.open(path)


def statistics() -> ExpertStatistics:
    """What calibration measured, with the frequencies of the chosen traffic where there is one; the same object as long
    as neither changes.

    Raises:
        NoRunError: the run has none yet (calibration was stopped before its first sample).
    """
    found, key = calibrated(), run_key()
    return _with_traffic(key, found, key[2]) if key[2] else found


def calibrated() -> ExpertStatistics:
    """What calibration measured, whatever is chosen; raises as `statistics`."""
    found = run().statistics
    if found is None or not (found.samples or "origin" in found.settings):  # imported ones name no samples
        raise NoRunError(
            f"The run {run_entry().label!r} has no finished sample: its calibration was stopped before the first "
            "one. Calibrate again, or open another run."
        )
    return found


@remembered(2, "Taking the frequencies of the traffic …")
def _with_traffic(key: tuple, calibrated: ExpertStatistics, digest: str) -> ExpertStatistics:
    return with_traffic(calibrated, _profile(key, calibrated, digest))


def profile() -> TrafficProfile | None:
    """The traffic whose frequencies stand in the place of calibration's; None where those are calibration's own."""
    key = run_key()
    return _profile(key, calibrated(), key[2]) if key[2] else None


@remembered(2)
def _profile(key: tuple, calibrated: ExpertStatistics, digest: str) -> TrafficProfile:
    return TrafficProfile.load(traffic.file_of(digest), calibrated)


def _served(digest: str, key: tuple[str, int]) -> str:
    """The digest where such a profile is kept and fits the run; else nothing, which stands in the notes."""
    if not digest or not _refused(key, run(), digest, changed(str(traffic.file_of(digest)))):
        return digest
    address.strange("traffic", f"The address says traffic={digest}, which is not kept here for this model; left out. "
                               "Upload its trace again.")  # fmt: skip
    return ""


@remembered(16)
def _refused(key: tuple, of: Run, digest: str, stamp: int) -> str:
    """Why a profile cannot be taken for a run; empty where it can."""
    try:
        TrafficProfile.load(traffic.file_of(digest), of.measured())
    except (TrafficError, RunError) as refused:
        return str(refused)
    return ""


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
