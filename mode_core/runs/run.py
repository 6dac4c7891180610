"""A run: one folder with everything a calibration left behind, readable by any process and any machine.

| file | what it holds |
|---|---|
| `run.json` | state, model and revision, samples, settings, versions, cost |
| `statistics.safetensors` | the sums (see `mode_core.statistics`) |
| `samples.json`, `thumbnails/` | the first samples: texts, small pictures, spectrograms of sounds, token grids |
| `token_scores.safetensors` | how important each of their vision and audio tokens is, per bank |
| `token_routes.safetensors` | which experts each token of the first samples used |
| `exemplars.safetensors`, `exemplar_pictures/` | what each expert was chosen for most strongly |
| `allocations/*.json`, `evaluations/*.json` | what was kept under a name |
| `evidence/` | every method compared at the same memory (`mode_core.runs.evidence`); more of it in its folders |
| `anchor.json`, `check.json` | what predicted damage means in nats, which estimates come true (`prediction`) |

Every file is written whole or not at all, and nothing is pickled. A run can be opened while it is still being made:
its `state` is "begun", "half done" or "done".
"""

from __future__ import annotations

import builtins
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mode_core.allocation.records import Allocation
from mode_core.bundled import PORTABLE
from mode_core.errors import ModeError, RunError, in_words
from mode_core.importance import Recommendation, recommended
from mode_core.json_files import checked, read_json, write_json
from mode_core.prediction import Anchor, Check, Predictor
from mode_core.runs.folder import RunFolder
from mode_core.runs.records import FORMAT, STATES, TOKEN_ROUTES, TOKEN_SCORES, SampleRecord
from mode_core.runs.token_routes import TokenRoutes, read_token_routes, write_token_routes
from mode_core.runs.token_scores import TokenScores, read_token_scores, write_token_scores
from mode_core.statistics import ExpertStatistics
from mode_core.statistics.exemplars import Exemplars

if TYPE_CHECKING:
    from mode_core.runs.evidence import Evidence

__all__ = ["FORMAT", "NAME", "STATES", "Run", "RunError", "TokenScores", "check_name", "portable_source"]

ANCHOR_FILE, CHECK_FILE = "anchor.json", "check.json"
NAME = re.compile(r"[\w][\w .+-]{0,99}")
Damaged = dict[str, str]  # name -> why what is kept under it cannot be read


class Run(RunFolder):
    """One folder of results; see the head of this file. Attributes read the disk when they are first asked for."""

    @staticmethod
    def list(root: str | Path) -> builtins.list[Run]:
        """All runs in the folders directly under `root`, newest first; damaged ones are left out."""
        runs = []
        for place in sorted(Path(root).glob("*/run.json")):
            try:
                runs.append(Run.open(place.parent))
            except RunError:
                continue
        return sorted(runs, key=lambda run: run.info.get("created", 0), reverse=True)

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

    def measured(self) -> ExpertStatistics:
        """The statistics.

        Raises:
            RunError: nothing was measured yet.
        """
        if self.statistics is None:
            raise RunError(f"The run {self.path} holds no statistics yet; finish its calibration with --resume first.")
        return self.statistics

    def write_statistics(self, statistics: ExpertStatistics, **changes: Any) -> None:
        """Replace the statistics, then note `changes` (such as `state`) in run.json."""
        statistics.save(self.path / "statistics.safetensors")
        self.__dict__["statistics"] = statistics
        self.write_info({**self.info, **changes})

    # --- the first samples, to be looked at -----------------------------------------------------------------

    def write_samples(
        self, records: Sequence[Mapping[str, Any]], scores: Sequence[TokenScores], routes: Sequence[TokenRoutes] = ()
    ) -> None:
        """Keep records of the first samples (JSON values), the scores of their vision tokens, and the paths of all."""
        if routes:
            write_token_routes(self.path / TOKEN_ROUTES, routes)
        if scores:
            write_token_scores(self.path / TOKEN_SCORES, scores)
        write_json(self.path / "samples.json", list(records))

    def sample_records(self) -> builtins.list[dict[str, Any]]:
        """The first samples: id, text, answer, task, `thumbnails` (paths of small pictures), `sounds` (those
        of spectrograms), `grids`, token counts.

        Raises:
            RunError: the file is damaged; the text names the field.
        """
        path = self.path / "samples.json"
        if not path.is_file():
            return []
        return [
            record
            | {
                kind: [str(self.path / "thumbnails" / Path(name).name) for name in record.get(kind, ())]
                for kind in ("thumbnails", "sounds")
                if kind in record
            }
            for record in checked(read_json(path, RunError), list[SampleRecord], path, RunError)
        ]

    def token_scores(self) -> dict[str, TokenScores]:
        """Sample id → the importance of its vision tokens, and of its audio tokens, for the samples of `sample_records`
        that have any.

        Raises:
            RunError: the file is damaged or newer; the text names the field.
        """
        return read_token_scores(self.path / TOKEN_SCORES)

    def token_routes(self) -> dict[str, TokenRoutes]:
        """Sample id → which experts its tokens used, for the samples of `sample_records`; empty in runs without them.

        Raises:
            RunError: the file is damaged or newer; the text names the field.
        """
        return read_token_routes(self.path / TOKEN_ROUTES)

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
                damaged[path.stem] = in_words(refused)
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

    def evidence_names(self) -> builtins.list[str]:
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
        return recommended(self.measured(), self.check())

    def predictor(self) -> Predictor:
        """Predicts the damage of allocations on this run, in nats where it has an anchor; prepare once, ask often."""
        return Predictor(self.measured(), self.anchor(), self.recommended())

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


def portable_samples(origin: Mapping[str, Any]) -> dict[str, Any]:
    """The origin of samples with its paths as run.json names those of models."""
    folders = {name: portable_source(origin[name]) for name in ("path", "images") if origin.get(name) is not None}
    return dict(origin) | folders


def portable_source(source: str | Path) -> str:
    """How run.json names a model: relative to the repository where it lies inside, else as given."""
    place = Path(source)
    if place.is_dir() and place.resolve().is_relative_to(PORTABLE):
        return place.resolve().relative_to(PORTABLE).as_posix()
    return str(source)
