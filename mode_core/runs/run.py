"""A run: one folder with everything a calibration left behind, readable by any process and any machine.

| file | what it holds |
|---|---|
| `run.json` | state, model and revision, samples, settings, versions, cost |
| `statistics.safetensors` | the sums (see `mode_core.statistics`) |
| `samples.json`, `thumbnails/` | the first samples: texts, small pictures, token grids |
| `token_scores.safetensors` | how important each of their vision tokens is, per bank |
| `exemplars.safetensors`, `exemplar_pictures/` | what each expert was chosen for most strongly |
| `allocations/*.json`, `evaluations/*.json` | what was kept under a name |
| `evidence/` | every method compared at the same memory (`mode_core.runs.evidence`); more of it in its folders |
| `anchor.json`, `check.json` | what predicted damage means in nats, which estimates come true (`prediction`) |

Every file is written whole or not at all, and nothing is pickled. A run can be opened while it is still being made:
its `state` is "begun", "half done" or "done".
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mode_core.allocation.records import Allocation
from mode_core.bundled import PORTABLE
from mode_core.errors import ModeError, RunError
from mode_core.files import LOCK, process_ended, sweep, writing
from mode_core.importance import Recommendation, recommended
from mode_core.json_files import check_format, checked, read_json, shortened, write_json
from mode_core.prediction import Anchor, Check, Predictor
from mode_core.runs.records import FORMAT, STATES, TOKEN_SCORES, RunInfo, SampleRecord
from mode_core.runs.token_scores import TokenScores, read_token_scores, write_token_scores
from mode_core.statistics import ExpertStatistics
from mode_core.statistics.exemplars import Exemplars

if TYPE_CHECKING:
    from mode_core.runs.evidence import Evidence

__all__ = ["FORMAT", "NAME", "STATES", "Run", "RunError", "TokenScores", "check_name", "portable_source"]

ANCHOR_FILE, CHECK_FILE = "anchor.json", "check.json"
NAME = re.compile(r"[\w][\w .+-]{0,99}")
Damaged = dict[str, str]  # name -> why what is kept under it cannot be read


class Run:
    """One folder of results; see the head of this file. Attributes read the disk when they are first asked for."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._holds = 0

    @classmethod
    def create(cls, path: str | Path, **info: Any) -> Run:
        """Begin a run in a new or empty folder, or where a process that has ended had measured nothing yet; `info`
        goes into run.json. Of two processes that begin one at once, the second is refused.

        Raises:
            RunError: the folder holds something already, or cannot be made.
            BusyError: another process is at it just now.
        """
        run = cls(path)
        try:
            run.path.mkdir(parents=True, exist_ok=True)
            with run.locked():
                if run._nothing_was_measured():
                    run._empty()
                if held := next((each for each in sorted(run.path.iterdir()) if each.name != LOCK), None):
                    raise RunError(
                        f"{run.path} is not empty (it holds {held.name}); choose another folder for the run."
                    )
                begun = {"format": FORMAT, "name": run.path.name, "state": "begun", "created": time.time()}
                run.write_info(begun | {"process": {"pid": os.getpid(), "host": socket.gethostname()}} | info)
        except OSError as failure:
            raise RunError(f"The run's folder {run.path} cannot be made ({failure.strerror}).") from None
        return run

    def _nothing_was_measured(self) -> bool:
        """Did a process begin here and end before its first checkpoint?"""
        if not (self.path / "run.json").is_file() or (self.path / "statistics.safetensors").exists():
            return False
        info = Run(self.path).info
        return info["state"] == "begun" and process_ended(info.get("process", {}))

    def _empty(self) -> None:
        for each in self.path.iterdir():
            if each.is_dir():
                shutil.rmtree(each)
            elif each.name != LOCK:
                each.unlink()

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Open a run's folder; a half-done run opens with what it has. What killed processes left there is removed.

        Raises:
            RunError: no such folder, no or damaged run.json, another format, damaged or missing statistics.
        """
        run = cls(path)
        if not os.path.isdir(path):  # noqa: PTH112  (says False of an impossible path, where Path raises)
            raise RunError(f"There is no run at {path}. Make one with 'python -m mode_core calibrate --out {path}'.")
        state = run.info["state"]
        statistics = run.path / "statistics.safetensors"
        if state == "done" and not statistics.is_file():
            raise RunError(f"{run.path} is done, but its statistics.safetensors is missing. Copy it whole, or redo it.")
        sweep(run.path)
        return run

    @contextmanager
    def locked(self) -> Iterator[Run]:
        """Be the only process that measures into this run, or renames or removes it, while the block runs; within
        the block it may be asked for again. What other processes wrote before is seen.

        Raises:
            BusyError: another process is at it; it is named.
        """
        if self._holds:
            yield self
            return
        with writing(self.path / LOCK, f"The run {self.path}"):
            for kept in ("info", "statistics"):
                self.__dict__.pop(kept, None)
            self._holds += 1
            try:
                yield self
            finally:
                self._holds -= 1

    @contextmanager
    def measuring(self) -> Iterator[Run]:
        """`locked`; a run in which nothing was measured when the block fails is gone afterwards."""
        with self.locked():
            try:
                yield self
            except BaseException:
                if (self.path / "run.json").is_file() and self.info["state"] == "begun":
                    self.remove()
                raise

    def rename(self, target: str | Path) -> None:
        """Move the run to another folder.

        Raises:
            RunError: something is there already. BusyError: a process writes there.
        """
        target = Path(target)
        with self.locked():
            if target.exists():
                raise RunError(f"There is a run called {target.name!r} already; choose another name.")
            self.path.rename(target)
            (target / LOCK).unlink(missing_ok=True)
        self.path = target

    def remove(self) -> None:
        """Delete the run with everything in it.

        Raises:
            BusyError: a process writes there.
        """
        with self.locked():
            shutil.rmtree(self.path)

    @staticmethod
    def files(path: Path) -> list[Path]:
        """The files of a run (or another folder) that are worth taking along: no locks, no unfinished ones."""
        return [
            each
            for each in sorted(path.rglob("*"))
            if each.is_file() and not any(part.startswith(".") for part in each.relative_to(path).parts)
        ]

    @staticmethod
    def list(root: str | Path) -> list[Run]:
        """All runs in the folders directly under `root`, newest first; damaged ones are left out."""
        runs = []
        for place in sorted(Path(root).glob("*/run.json")):
            try:
                runs.append(Run.open(place.parent))
            except RunError:
                continue
        return sorted(runs, key=lambda run: run.info.get("created", 0), reverse=True)

    @property
    def name(self) -> str:
        """What to call it: the folder's name."""
        return self.path.resolve().name

    @cached_property
    def info(self) -> Mapping[str, Any]:
        """The content of run.json, its fields as `RunInfo` has them.

        Raises:
            RunError: it is missing, damaged, or of a newer format; the text names the field.
        """
        path = self.path / "run.json"
        if not path.is_file():
            raise RunError(f"{self.path} is a folder without run.json, so no run; choose a run's folder.")
        record = read_json(path, RunError)
        check_format(record, FORMAT, path, RunError, "run of this software")
        if record.get("state") not in STATES:
            told = shortened(record.get("state"))
            raise RunError(f"{path}: the state is {told}; expected one of {', '.join(STATES)}.")
        return checked(record, RunInfo, path, RunError)

    @property
    def state(self) -> str:
        """ "begun" (nothing measured yet), "half done" or "done"."""
        return self.info["state"]

    @property
    def model_source(self) -> str | None:
        """Folder or hub id of the model; a path within the repository is resolved to where that is now."""
        source = self.info.get("model", {}).get("source")
        return str(PORTABLE / source) if source and os.path.isdir(PORTABLE / source) else source  # noqa: PTH112

    @cached_property
    def statistics(self) -> ExpertStatistics | None:
        """What was measured; None in a run that has only begun.

        Raises:
            StatisticsError: the file is damaged.
        """
        path = self.path / "statistics.safetensors"
        return ExpertStatistics.load(path) if self.state != "begun" or path.is_file() else None

    def write_info(self, info: Mapping[str, Any]) -> None:
        """Replace run.json; which process began the run is forgotten once it holds something."""
        kept = {key: value for key, value in info.items() if key != "process" or info["state"] == "begun"}
        write_json(self.path / "run.json", kept)
        self.__dict__["info"] = kept

    def write_statistics(self, statistics: ExpertStatistics, **changes: Any) -> None:
        """Replace the statistics, then note `changes` (such as `state`) in run.json."""
        statistics.save(self.path / "statistics.safetensors")
        self.__dict__["statistics"] = statistics
        self.write_info({**self.info, **changes})

    # --- the first samples, to be looked at -----------------------------------------------------------------

    def write_samples(self, records: Sequence[Mapping[str, Any]], scores: Sequence[TokenScores]) -> None:
        """Keep records of the first samples (JSON values) and the scores of their vision tokens."""
        if scores:
            write_token_scores(self.path / TOKEN_SCORES, scores)
        write_json(self.path / "samples.json", list(records))

    def sample_records(self) -> list[dict[str, Any]]:
        """The first samples: id, text, answer, task, `thumbnails` (paths of small pictures), `grids`, token counts.

        Raises:
            RunError: the file is damaged; the text names the field.
        """
        path = self.path / "samples.json"
        if not path.is_file():
            return []
        return [
            record | {"thumbnails": [str(self.path / "thumbnails" / Path(n).name) for n in record["thumbnails"]]}
            for record in checked(read_json(path, RunError), list[SampleRecord], path, RunError)
        ]

    def token_scores(self) -> dict[str, TokenScores]:
        """Sample id → the importance of its vision tokens, for the samples of `sample_records` that have pictures.

        Raises:
            RunError: the file is damaged or newer; the text names the field.
        """
        return read_token_scores(self.path / TOKEN_SCORES)

    def exemplars(self) -> Exemplars | None:
        """What each expert was chosen for most strongly (see `statistics.exemplars`); None in a run without them.

        Raises:
            ExemplarsError: the file is damaged.
        """
        return Exemplars.load(self.path)

    # --- what is kept under a name --------------------------------------------------------------------------

    def save_allocation(self, name: str, allocation: Allocation) -> Path:
        """Keep an allocation under a name; an older one of that name is replaced."""
        path = self._named("allocations", name)
        allocation.save(path)
        return path

    def allocations(self, damaged: Damaged | None = None) -> dict[str, Allocation]:
        """Name → allocation, by name. One that cannot be read is noted in `damaged`, or raised where that is None."""
        return self._kept("allocations", Allocation.load, damaged)

    def save_evaluation(self, name: str, scores: Mapping[str, Any]) -> Path:
        """Keep an evaluation's scores (JSON values) under a name; an older one of that name is replaced."""
        path = self._named("evaluations", name)
        write_json(path, dict(scores))
        return path

    def evaluations(self, damaged: Damaged | None = None) -> dict[str, dict[str, Any]]:
        """Name → scores as JSON holds them (`Scores.from_dict` reads one), by name; `damaged` as in `allocations`."""
        return self._kept("evaluations", _evaluation, damaged)

    def _kept(self, folder: str, load: Callable[[Path], Any], damaged: Damaged | None) -> dict[str, Any]:
        kept = {}
        for path in sorted((self.path / folder).glob("*.json")):
            try:
                kept[path.stem] = load(path)
            except (ModeError, OSError) as refused:
                if damaged is None:
                    raise
                damaged[path.stem] = str(refused)
        return kept

    def evidence(self, name: str = "") -> Evidence | None:
        """What `python -m mode_core compare` measured of all methods, or of those in a folder of `evidence_names`;
        None where it was not run.

        Raises:
            EvidenceError: the files are incomplete or damaged.
        """
        from mode_core.runs.evidence import Evidence  # pandas: half a second that few need

        folder = self.path / "evidence" / name
        return Evidence.load(folder) if (folder / "evidence.json").is_file() else None

    def evidence_names(self) -> list[str]:
        """Folders of evidence beside the first, by name (`evidence/shrinkage`: "shrinkage")."""
        return sorted(place.parent.name for place in (self.path / "evidence").glob("*/evidence.json"))

    # --- what is known of the estimates ----------------------------------------------------------------------

    def check(self) -> Check | None:
        """What `python -m mode_core check` found out; None where it was not run, or of a model that has changed since.

        Raises:
            CheckError: the file is damaged.
        """
        path = self.path / CHECK_FILE
        found = Check.load(path) if path.is_file() else None
        revision = self.info.get("model", {}).get("revision")
        return found if found is None or found.info.get("revision") == revision else None

    def anchor(self) -> Anchor | None:
        """What damage predicted means in nats: a check's, else that of `anchor.json`; None where neither is.

        Raises:
            CheckError, PredictionError: a file is damaged.
        """
        path = self.path / ANCHOR_FILE
        return found.anchor if (found := self.check()) else Anchor.load(path) if path.is_file() else None

    def recommended(self) -> Recommendation:
        """The estimate to begin with on this run; see `mode_core.importance.recommended`."""
        return recommended(self.statistics, self.check())

    def predictor(self) -> Predictor:
        """Predicts the damage of allocations on this run, in nats where it has an anchor; prepare once, ask often."""
        return Predictor(self.statistics, self.anchor(), self.recommended())

    def _named(self, folder: str, name: str) -> Path:
        check_name(name)
        return self.path / folder / f"{name}.json"


def _evaluation(path: Path) -> dict[str, Any]:
    return checked(read_json(path, RunError), dict[str, Any], path, RunError)


def check_name(name: str) -> None:
    """Refuse what cannot be the name of an allocation or evaluation.

    Raises:
        RunError: says what can.
    """
    if not NAME.fullmatch(name):
        raise RunError(
            f"{name!r} cannot be a name; use letters, digits, spaces, '.', '+', '-' and '_', at most 100 of them."
        )


def portable_source(source: str | Path) -> str:
    """How run.json names a model: relative to the repository where it lies inside, else as given."""
    place = Path(source)
    if place.is_dir() and place.resolve().is_relative_to(PORTABLE):
        return place.resolve().relative_to(PORTABLE).as_posix()
    return str(source)
