"""The only place for session state, caches and the address bar.

Pages ask here for the open run and for everything that follows from it, and change what a person chose with
`choose`; every choice stands in the URL, so a link or a reload brings the same view back. Statistics, costs and
solvers are kept for the whole process, keyed by the run's folder and its time of change, never by hashing
arrays; what a session holds is small: its choices, the selected expert and the ids of its jobs.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from dashboard.choices import Choices, from_address, to_address
from dashboard.measured import Measurement, from_records
from dashboard.work import ModelShelf
from mode_core.allocation import Allocation, Solver
from mode_core.importance import CostTable, Frequencies
from mode_core.importance import cost_table as compute_costs
from mode_core.importance import frequencies as compute_frequencies
from mode_core.jobs import JobQueue
from mode_core.quantization.sizes import expert_bytes
from mode_core.run import NAME, Run
from mode_core.statistics import ExpertStatistics

ROOT = Path(__file__).resolve().parent.parent
BUNDLED = "bundled"  # the name of the run that comes with the software
BUNDLED_RUN = ROOT / "sample_data" / "run"
BUNDLED_MODEL = ROOT / "sample_data" / "model"
CALIBRATION = ROOT / "sample_data" / "calibration"
EVALUATION = ROOT / "sample_data" / "evaluation"


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


_PLACE = ("run", "bank", "expert", "job", "controls")  # other parameters, kept in the state under their own names


def runs_folder() -> Path:
    """Where runs made here are kept (`./runs`, or the environment variable MODE_RUNS)."""
    return Path(os.environ.get("MODE_RUNS") or ROOT / "runs")


def exports_folder() -> Path:
    """Where exports are written on request (`./exports`, or the environment variable MODE_EXPORTS)."""
    return Path(os.environ.get("MODE_EXPORTS") or ROOT / "exports")


def relative(path: Path) -> str:
    """A path as a person in the repo's folder would type it."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


# --- what a person has chosen, and the address bar ---------------------------------------------------------


def restore() -> None:
    """At the start of every script run: a new session takes its choices from the URL; later the state is the
    truth and is written back (a page change clears the address, and while somebody drags, the browser's is old).
    """
    if "choices" not in st.session_state:
        _read_url(st.query_params.to_dict())
    write_url()


def _read_url(parameters: Mapping[str, str]) -> None:
    read, problems = from_address(parameters)
    place = {name: parameters[name] for name in _PLACE if name in parameters}
    st.session_state.update(choices=read, notes=problems, place=place)


def write_url() -> None:
    """Put every choice that is not the default into the address bar."""
    wanted = st.session_state["place"] | to_address(choices())
    if st.query_params.to_dict() != wanted:
        st.query_params.from_dict(wanted)


def notes() -> list[str]:
    """Parts of the address that could not be understood, in words."""
    return st.session_state.get("notes", [])


def choices() -> Choices:
    """What is set now."""
    return st.session_state.get("choices", Choices())


def choose(**changes: Any) -> None:
    """Change some choices; the URL follows. Works in callbacks and in fragments."""
    st.session_state["choices"] = replace(choices(), **changes)
    write_url()


def reset() -> None:
    """Back to the paper's settings; the run stays."""
    choose(**asdict(Choices()))


def bind(
    field: str, shown: Callable[[Any], Any] = lambda value: value, meant: Callable[[Any], Any] = lambda value: value
) -> dict[str, Any]:
    """Arguments that tie a widget to one field: `st.slider("Average bits", 2.0, 4.0, **bind("average_bits"))`.

    The widget shows `shown(field)` and sets the field to `meant(widget's value)`; nothing is lost on a page
    change, because the choice, not the widget, is the truth. Give the widget no `value` or `index`.
    """
    key = f"widget:{field}"
    st.session_state[key] = shown(getattr(choices(), field))
    return {"key": key, "on_change": lambda: choose(**{field: meant(st.session_state[key])})}


def selected() -> tuple[str, int]:
    """(bank name, expert) that the person looks at; the first ones until they choose."""
    banks, place = list(statistics().banks), st.session_state["place"]
    number = _whole(place.get("bank"), len(banks))
    return banks[number], _whole(place.get("expert"), statistics().banks[banks[number]].shape.experts)


def select(bank: str | None = None, expert: int | None = None) -> None:
    """Look at another bank (by name) or expert; the URL follows."""
    place = dict(st.session_state["place"])
    if bank is not None:
        place["bank"] = str(list(statistics().banks).index(bank))
    if expert is not None:
        place["expert"] = str(expert)
    st.session_state["place"] = place
    write_url()


def go(page: str) -> None:
    """Change to another page, `go("budget")`, keeping the address's settings."""
    st.switch_page(str(ROOT / "pages" / f"{page}.py"), query_params=st.query_params.to_dict())


def _whole(text: str | None, end: int) -> int:
    return int(text) if text and text.isdigit() and int(text) < end else 0


# --- runs --------------------------------------------------------------------------------------------------


def runs() -> list[RunEntry]:
    """The bundled run, and those in the folder of runs, newest first."""
    found = [RunEntry(BUNDLED, BUNDLED_RUN)] if (BUNDLED_RUN / "run.json").is_file() else []
    own = [path.parent for path in runs_folder().glob("*/run.json") if NAME.fullmatch(path.parent.name)]
    own.sort(key=lambda path: (path / "run.json").stat().st_mtime, reverse=True)
    return found + [RunEntry(path.name, path) for path in own]


def open_run(run: str | Path) -> None:
    """Show this run from now on: one that `runs()` lists, by name or by folder.

    Raises:
        NoRunError: there is no such run.
    """
    folder = Path(run)
    entry = _entry(BUNDLED if folder == BUNDLED_RUN else folder.name)
    kept = {name: value for name, value in st.session_state["place"].items() if name in ("job", "controls")}
    st.session_state["place"] = kept | ({"run": entry.name} if entry.name != BUNDLED else {})
    write_url()


def _entry(name: str) -> RunEntry:
    """The run of that name; a name is never a path, so an address cannot lead out of the folder of runs."""
    path = BUNDLED_RUN if name == BUNDLED else runs_folder() / name
    if not NAME.fullmatch(name) or not (path / "run.json").is_file():
        raise NoRunError(f"There is no run called {name!r} any more. Open another one in the sidebar, or calibrate.")
    return RunEntry(name, path)


def wanted_run() -> str | None:
    """Name of the run in the URL; None where the default one is meant."""
    return st.session_state.get("place", {}).get("run")


def run_entry() -> RunEntry:
    """Which run is open: the one in the URL, else the bundled one, else the newest.

    Raises:
        NoRunError: none at all, or the one asked for is gone.
    """
    if wanted := wanted_run():
        return _entry(wanted)
    if (BUNDLED_RUN / "run.json").is_file():
        return RunEntry(BUNDLED, BUNDLED_RUN)
    if not (known := runs()):
        raise NoRunError("There is no run yet. Calibrate a model on some samples; the result opens by itself.")
    return known[0]


def run() -> Run:
    """The open run.

    Raises:
        NoRunError: there is none.
        RunError: its folder is damaged; the text names the file.
    """
    return _opened(*run_key())


def run_key() -> tuple[str, int]:
    """Which run in which state: its folder and the time of its last change; the key of every cache below."""
    entry = run_entry()
    return str(entry.path), _stamp(entry.path)


def _stamp(path: Path) -> int:
    files = (path / "run.json", path / "statistics.safetensors")
    return max((file.stat().st_mtime_ns for file in files if file.is_file()), default=0)


@st.cache_resource(max_entries=4, show_spinner="Opening the run …")
def _opened(path: str, stamp: int) -> Run:
    return Run.open(path)


# --- what follows from the run and the choices --------------------------------------------------------------


def statistics() -> ExpertStatistics:
    """What calibration measured; the same object as long as the run does not change.

    Raises:
        NoRunError: the run has none yet (calibration was stopped before its first sample).
    """
    found = run().statistics
    if found is None or not found.samples:
        raise NoRunError(
            f"The run {run_entry().label!r} has no finished sample: its calibration was stopped before the first "
            "one. Calibrate again, or open another run."
        )
    return found


def frequencies() -> dict[str, Frequencies]:
    """Bank name → shares of text, vision, key, redundant and all tokens, for the chosen ratio and signal."""
    now = choices()
    return _frequencies(run_key(), statistics(), now.key_ratio, now.signal)


def costs() -> CostTable:
    """Predicted damage of every expert at every chosen width, by the chosen method."""
    return _costs(run_key(), statistics(), _importance(choices()), widths())


def solver() -> Solver:
    """The allocation problem, prepared for any budget."""
    return _solver(run_key(), statistics(), _importance(choices()), widths(), choices().scope, _grid_key())


def allocation() -> Allocation:
    """The exact allocation for everything chosen.

    Raises:
        AllocationError: the budget cannot be met with these widths; the text has the feasible range.
    """
    now = choices()
    prepared = _solver(run_key(), statistics(), _importance(now), widths(), now.scope, _grid_key())
    if now.budget_unit == "MB":
        return prepared.solve(None, budget_bytes=round(1e6 * megabytes()))
    return prepared.solve(now.average_bits)


def megabytes() -> float:
    """The budget in MB: what was chosen, else the size of all experts at the chosen average bits."""
    now = choices()
    if now.megabytes is not None:
        return now.megabytes
    low, high = size_range()
    few, many = min(widths()), max(widths())
    share = (now.average_bits - few) / (many - few) if many > few else 1.0
    return (low + np.clip(share, 0, 1) * (high - low)) / 1e6


def size_range() -> tuple[int, int]:
    """Bytes of all packed experts at the narrowest and at the widest chosen width."""
    totals = sum(sizes()[bank.name] * bank.shape.experts for bank in statistics())
    return int(totals.min()), int(totals.max())


def uniform_allocation() -> Allocation:
    """The rival of the same size: every expert at the widest of the chosen widths that the budget affords.

    At an average of 2.5 bits that is 2 bits. Raises `AllocationError` as `allocation` does.
    """
    chosen = allocation()
    fitting = [width for width in sorted(widths()) if width <= chosen.average_bits + 1e-9]
    return solver().uniform(fitting[-1] if fitting else min(widths()))


def widths() -> tuple[int, ...]:
    """The chosen widths that this run has measured, rising; all measured ones where none of them was."""
    measured = statistics().bits
    return tuple(sorted(set(choices().widths) & set(measured))) or tuple(sorted(measured))


def grid() -> dict[str, Any]:
    """`group_size` and `symmetric` of the quantizer: as chosen, else as the run's sensitivity was measured."""
    now, measured = choices(), statistics().settings
    return {
        "group_size": int(measured["group_size"]) if now.group_size is None else now.group_size,
        "symmetric": bool(measured["symmetric"]) if now.symmetric is None else now.symmetric,
    }


def sizes() -> dict[str, np.ndarray]:
    """Bank name → bytes of one packed expert at each of `widths()`, int `[B]`; predicted, exact for `rtn`."""
    return {bank.name: expert_bytes(bank.shape, widths(), **grid()) for bank in statistics()}


def _importance(now: Choices) -> tuple:
    return now.method, now.key_ratio, now.signal, now.vision_weight


def _grid_key() -> tuple:
    return tuple(sorted(grid().items()))


@st.cache_resource(max_entries=64, show_spinner=False)
def _frequencies(key: tuple, _statistics: ExpertStatistics, key_ratio: float, signal: str) -> dict[str, Frequencies]:
    return compute_frequencies(_statistics, key_ratio=key_ratio, signal=signal)


@st.cache_resource(max_entries=64, show_spinner=False)
def _costs(key: tuple, _statistics: ExpertStatistics, importance: tuple, bits: tuple[int, ...]) -> CostTable:
    method, key_ratio, signal, vision_weight = importance
    return compute_costs(
        _statistics, method=method, key_ratio=key_ratio, signal=signal, vision_weight=vision_weight, bits=bits
    )


@st.cache_resource(max_entries=64, show_spinner=False)
def _solver(
    key: tuple, _statistics: ExpertStatistics, importance: tuple, bits: tuple[int, ...], scope: str, grid_key: tuple
) -> Solver:
    table = _costs(key, _statistics, importance, bits)
    each = {bank.name: expert_bytes(bank.shape, bits, **dict(grid_key)) for bank in _statistics}
    return Solver(table, bits, scope=scope, sizes=each)


# --- stale marks -------------------------------------------------------------------------------------------


def fingerprint(of: Allocation | None = None) -> str:
    """Seal of what a quantized model is made from: the run, every expert's bits, and the quantizer's grid.

    A measured result is stale exactly where its fingerprint is another one than this.
    """
    chosen = of or allocation()
    seal = hashlib.sha256(json.dumps([str(run_entry().path), *map(str, _grid_key())]).encode())
    for bank, bits in sorted(chosen.bits.items()):
        seal.update(bank.encode() + np.asarray(bits, np.int16).tobytes())
    return seal.hexdigest()[:16]


def settings_now() -> dict[str, Any]:
    """Everything chosen as a plain dictionary, to be kept beside a measured result."""
    return asdict(choices()) | {"widths": list(widths())} | grid()


def writable() -> bool:
    """May results be kept in the open run? The bundled one stays as it came."""
    return run_entry().name != BUNDLED


def measurements() -> list[Measurement]:
    """What was measured with the open run, newest first: kept in it, or by a job that this process remembers."""
    folder = run_entry().path / "evaluations"
    stamps = tuple(sorted((path.name, path.stat().st_mtime_ns) for path in folder.glob("*.json")))
    found = {measured.fingerprint: measured for measured in _kept_measurements(run_key(), stamps, run())}
    kind = f"measure:{run_entry().path}"
    found |= {job.result.fingerprint: job.result for job in jobs().list() if job.kind == kind and job.state == "done"}
    return sorted(found.values(), key=lambda measured: measured.made, reverse=True)


@st.cache_resource(max_entries=8, show_spinner=False)
def _kept_measurements(key: tuple, stamps: tuple, _run: Run) -> list[Measurement]:
    return from_records(_run.evaluations())


# --- the model and long work -------------------------------------------------------------------------------


@st.cache_resource(show_spinner=False)
def shelf() -> ModelShelf:
    """The process's loaded model, shared by all sessions and jobs."""
    return ModelShelf()


def loaded_model(source: str | Path | None = None) -> Any:
    """The run's model (or another one), loaded at most once a process. Blocks while it loads; use it in jobs."""
    return shelf().get(str(source or run().model_source))


@st.cache_resource(show_spinner=False)
def jobs() -> JobQueue:
    """The process's queue of long work: one worker thread."""
    return JobQueue()


def watch(job_id: str | None) -> None:
    """Put a job's id into the URL (None takes it out), so that a reload or a second tab finds it again."""
    place = {name: value for name, value in st.session_state["place"].items() if name != "job"}
    st.session_state["place"] = place | ({"job": job_id} if job_id else {})
    write_url()


def watched() -> str | None:
    """Id of the job in the URL."""
    return st.session_state.get("place", {}).get("job")
