"""A run: one folder with everything a calibration left behind, readable by any process and any machine.

| file | what it holds |
|---|---|
| `run.json` | state, model and revision, samples, settings, versions, cost |
| `statistics.safetensors` | the sums (see `mode_core.statistics`) |
| `samples.json`, `thumbnails/` | the first samples: texts, small pictures, token grids |
| `token_scores.safetensors` | how important each of their vision tokens is, per bank |
| `exemplars.safetensors`, `exemplar_pictures/` | what each expert was chosen for most strongly |
| `allocations/*.json`, `evaluations/*.json` | what was kept under a name |
| `evidence/` | every method compared at the same memory (`mode_core.comparison.records`); more of it in its folders |
| `anchor.json`, `check.json` | what predicted damage means in nats, which estimates come true (`prediction`) |

Every file is written whole or not at all, and nothing is pickled. A run can be opened while it is still being made:
its `state` is "begun", "half done" or "done".
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mode_core.allocation.records import Allocation
from mode_core.bundled import PORTABLE
from mode_core.files import atomic_write, read_tensors, tensor_bytes
from mode_core.importance import Recommendation, recommended
from mode_core.prediction import Anchor, Check, Predictor
from mode_core.statistics import ExpertStatistics
from mode_core.statistics.exemplars import Exemplars

if TYPE_CHECKING:
    from mode_core.comparison.records import Evidence

FORMAT = "mode-run/1"
ANCHOR_FILE, CHECK_FILE = "anchor.json", "check.json"
STATES = ("begun", "half done", "done")
NAME = re.compile(r"[\w][\w .+-]{0,99}")


class RunError(ValueError):
    """A run that cannot be opened or written; the text names the folder or file and what to do."""


@dataclass(frozen=True)
class TokenScores:
    """Importance of one sample's vision tokens: `scores[signal]` float32 `[banks, N]`, higher = kept first.

    `banks` are the bank names of the rows. `grids` lists (rows, columns) of tokens per image, in the order of the N
    tokens; None where the model's processor does not tell where a token lies.
    """

    sample: str
    banks: tuple[str, ...]
    scores: dict[str, np.ndarray]
    grids: tuple[tuple[int, int], ...] | None


class Run:
    """One folder of results; see the head of this file. Attributes read the disk when they are first asked for."""

    def __init__(self, path: str | Path):
        self.path = Path(path)

    @classmethod
    def create(cls, path: str | Path, **info: Any) -> Run:
        """Begin a run in a new or empty folder; `info` goes into run.json.

        Raises:
            RunError: the folder holds something already, or cannot be made.
        """
        run = cls(path)
        try:
            run.path.mkdir(parents=True, exist_ok=True)
            if held := next(iter(sorted(run.path.iterdir())), None):
                raise RunError(f"{run.path} is not empty (it holds {held.name}); choose another folder for the run.")
        except OSError as failure:
            raise RunError(f"The run's folder {run.path} cannot be made ({failure.strerror}).") from None
        run.write_info({"format": FORMAT, "name": run.path.name, "state": "begun", "created": time.time(), **info})
        return run

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Open a run's folder; a half-done run opens with what it has.

        Raises:
            RunError: no such folder, no or damaged run.json, another format, damaged or missing statistics.
        """
        run = cls(path)
        if not run.path.is_dir():
            raise RunError(f"There is no run at {path}. Make one with 'python -m mode_core calibrate --out {path}'.")
        state = run.info.get("state")
        if state not in STATES:
            raise RunError(f"{run.path / 'run.json'}: the state is {state!r}; expected one of {', '.join(STATES)}.")
        statistics = run.path / "statistics.safetensors"
        if state == "done" and not statistics.is_file():
            raise RunError(f"{run.path} is done, but its statistics.safetensors is missing. Copy it whole, or redo it.")
        return run

    @staticmethod
    def list(root: str | Path) -> list[Run]:
        """All runs in the folders directly under `root`, newest first; damaged ones are left out."""
        found = []
        for place in sorted(Path(root).glob("*/run.json")):
            try:
                found.append(Run.open(place.parent))
            except RunError:
                continue
        return sorted(found, key=lambda run: run.info.get("created", 0), reverse=True)

    @property
    def name(self) -> str:
        """What to call it: the folder's name."""
        return self.path.resolve().name

    @cached_property
    def info(self) -> Mapping[str, Any]:
        """The content of run.json."""
        record = self._json("run.json")
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise RunError(f"{self.path / 'run.json'} is JSON, but no run of this software (no 'format': '{FORMAT}').")
        return record

    @property
    def state(self) -> str:
        """ "begun" (nothing measured yet), "half done" or "done"."""
        return self.info["state"]

    @property
    def model_source(self) -> str | None:
        """Folder or hub id of the model; a path within the repository is resolved to where that is now."""
        source = self.info.get("model", {}).get("source")
        return str(PORTABLE / source) if source and (PORTABLE / source).is_dir() else source

    @cached_property
    def statistics(self) -> ExpertStatistics | None:
        """What was measured; None in a run that has only begun.

        Raises:
            StatisticsError: the file is damaged.
        """
        path = self.path / "statistics.safetensors"
        return ExpertStatistics.load(path) if self.state != "begun" or path.is_file() else None

    def write_info(self, info: Mapping[str, Any]) -> None:
        """Replace run.json."""
        atomic_write(self.path / "run.json", json.dumps(dict(info), indent=1, ensure_ascii=False) + "\n")
        self.__dict__["info"] = dict(info)

    def write_statistics(self, statistics: ExpertStatistics, **changes: Any) -> None:
        """Replace the statistics, then note `changes` (such as `state`) in run.json."""
        statistics.save(self.path / "statistics.safetensors")
        self.__dict__["statistics"] = statistics
        self.write_info({**self.info, **changes})

    # --- the first samples, to be looked at -----------------------------------------------------------------

    def write_samples(self, records: Sequence[Mapping[str, Any]], scores: Sequence[TokenScores]) -> None:
        """Keep records of the first samples (JSON values) and the scores of their vision tokens."""
        tensors = {
            f"{number}|{signal}": array.astype(np.float32)
            for number, entry in enumerate(scores)
            for signal, array in entry.scores.items()
        }
        header = [{"sample": s.sample, "banks": list(s.banks), "grids": s.grids} for s in scores]
        if scores:
            content = tensor_bytes(tensors, {"token_scores": json.dumps(header)})
            atomic_write(self.path / "token_scores.safetensors", content)
        atomic_write(self.path / "samples.json", json.dumps(list(records), indent=1, ensure_ascii=False) + "\n")

    def sample_records(self) -> list[dict[str, Any]]:
        """The first samples: id, text, answer, task, `thumbnails` (paths of small pictures), `grids`, token counts."""
        records = self._json("samples.json") if (self.path / "samples.json").is_file() else []
        return [
            record | {"thumbnails": [str(self.path / "thumbnails" / Path(n).name) for n in record["thumbnails"]]}
            for record in records
        ]

    def token_scores(self) -> dict[str, TokenScores]:
        """Sample id → the importance of its vision tokens, for the samples of `sample_records` that have pictures."""
        path = self.path / "token_scores.safetensors"
        if not path.is_file():
            return {}
        tensors, metadata = read_tensors(path, RunError)
        found = {}
        for number, entry in enumerate(json.loads(metadata.get("token_scores", "[]"))):
            mine = {key.split("|")[1]: value for key, value in tensors.items() if key.split("|")[0] == str(number)}
            grids = None if entry["grids"] is None else tuple(tuple(grid) for grid in entry["grids"])
            found[entry["sample"]] = TokenScores(entry["sample"], tuple(entry["banks"]), mine, grids)
        return found

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

    def allocations(self) -> dict[str, Allocation]:
        """Name → allocation, by name."""
        return {path.stem: Allocation.load(path) for path in sorted((self.path / "allocations").glob("*.json"))}

    def save_evaluation(self, name: str, scores: Mapping[str, Any]) -> Path:
        """Keep an evaluation's scores (JSON values) under a name; an older one of that name is replaced."""
        path = self._named("evaluations", name)
        atomic_write(path, json.dumps(dict(scores), indent=1, ensure_ascii=False) + "\n")
        return path

    def evaluations(self) -> dict[str, dict[str, Any]]:
        """Name → scores, by name."""
        folder = self.path / "evaluations"
        return {path.stem: self._json(f"evaluations/{path.name}") for path in sorted(folder.glob("*.json"))}

    def evidence(self, name: str = "") -> Evidence | None:
        """What `python -m mode_core compare` measured of all methods, or of those in a folder of `evidence_names`;
        None where it was not run.

        Raises:
            EvidenceError: the files are incomplete or damaged.
        """
        from mode_core.comparison.records import Evidence

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
        return Predictor(self.statistics, self.anchor())

    def _named(self, folder: str, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise RunError(
                f"{name!r} cannot be a name; use letters, digits, spaces, '.', '+', '-' and '_', at most 100 of them."
            )
        return self.path / folder / f"{name}.json"

    def _json(self, name: str) -> Any:
        path = self.path / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(f"{self.path} is a folder without {name}, so no run; choose a run's folder.") from None
        except (UnicodeDecodeError, json.JSONDecodeError) as broken:
            raise RunError(f"{path} is damaged ({broken}); copy the run anew, or calibrate again.") from None


def portable_source(source: str | Path) -> str:
    """How run.json names a model: relative to the repository where it lies inside, else as given."""
    place = Path(source)
    if place.is_dir() and place.resolve().is_relative_to(PORTABLE):
        return place.resolve().relative_to(PORTABLE).as_posix()
    return str(source)
