"""One measurement of three models (original, the allocation, uniform bits of its size), kept and as tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from dashboard.words import names
from mode_core.errors import ScoresError
from mode_core.evaluation.intervals import bootstrap_interval
from mode_core.evaluation.records import ALLOCATION, MODELS, ORIGINAL, UNIFORM, Scores
from mode_core.evaluation.verdicts import paired
from mode_core.modalities import USUAL

KL_COLUMNS, SAME_COLUMNS = ([f"{what} {words}" for words in names.ON.values()] for what in ("KL", "same token"))


@dataclass(frozen=True)
class Measurement:
    """Scores of the original, of one allocation, and of uniform bits that fit the same budget.

    `scores`, `predicted_bytes` and `measured_bytes` map each of `MODELS` to its value; bytes are those of all
    experts. `uniform_bits` are the rival's on average, `fingerprint` seals what was quantized, `settings` are the
    choices behind it, `made` is a time stamp (seconds since 1970). `notes` are sentences about how it was quantized.
    """

    scores: dict[str, Scores]
    predicted_bytes: dict[str, int]
    measured_bytes: dict[str, int]
    uniform_bits: float
    fingerprint: str
    settings: dict[str, object]
    made: float
    notes: tuple[str, ...] = ()

    def label(self, model: str) -> str:
        """How one of `MODELS` is called on the screen."""
        if model == UNIFORM:
            return f"uniform {self.uniform_bits:.3g} bits"
        return "this allocation" if model == ALLOCATION else model

    def records(self) -> dict[str, dict]:
        """Evaluation records to keep in a run, by name; any reader of evaluations can read each of them."""
        shared = {
            "measurement": self.fingerprint,
            "choices": self.settings,
            "uniform_bits": self.uniform_bits,
            "made": self.made,
            "notes": list(self.notes),
        }
        found = {}
        for model, scores in self.scores.items():
            own = {"model": model, "bytes": self.measured_bytes[model], "predicted": self.predicted_bytes[model]}
            record = replace(scores, settings=dict(scores.settings) | shared | own)
            found[f"{self.fingerprint}-{model}"] = record.to_dict()
        return found


def read_records(records: Mapping[str, dict], damaged: dict[str, str]) -> dict[str, Scores]:
    """A run's evaluation records as scores, by name; why one cannot be read is noted in `damaged`."""
    found = {}
    for name, record in records.items():
        try:
            found[name] = Scores.from_dict(record, f"The evaluation {name!r}")
        except ScoresError as refused:
            damaged[name] = str(refused)
    return found


def measurements_of(kept: Mapping[str, Scores], damaged: dict[str, str]) -> list[Measurement]:
    """Whole measurements among a run's scores, newest first; one whose models answered different items is noted in
    `damaged`."""
    groups: dict[str, dict[str, Scores]] = {}
    for scores in kept.values():
        if "measurement" in scores.settings:
            groups.setdefault(scores.settings["measurement"], {})[scores.settings["model"]] = scores
    whole = []
    for seal, group in groups.items():
        if set(group) != set(MODELS):
            continue
        if len({tuple((one.id, one.correct is None) for one in scores.answers) for scores in group.values()}) > 1:
            damaged[seal] = "its models were scored on different items."
        else:
            whole.append(_from_group(group))
    return sorted(whole, key=lambda found: found.made, reverse=True)


def evaluation_frame(kept: Mapping[str, Scores]) -> pd.DataFrame:
    """One row per evaluation that is no part of a measurement, as 'mode_core evaluate --name' keeps them: name, of what
    bits and by which quantizer, items, accuracy, KL to the original in nats, agreement of the top token."""
    rows = []
    for name, scores in kept.items():
        if "measurement" not in scores.settings:
            of, by = scores.settings.get("allocation", "the original"), scores.settings.get("quantizer", {})
            numbers = (len(scores.answers), scores.accuracy, scores.kl, scores.agreement)
            rows.append((name, of, by.get("method", "–"), *numbers))
    return pd.DataFrame(rows, columns=["name", "bits of", "quantizer", "items", "accuracy", "KL", "same token"])


def _from_group(scores: dict[str, Scores]) -> Measurement:
    shared = scores[ALLOCATION].settings
    return Measurement(
        scores=scores,
        predicted_bytes={model: int(scores[model].settings["predicted"]) for model in MODELS},
        measured_bytes={model: int(scores[model].settings["bytes"]) for model in MODELS},
        uniform_bits=float(shared.get("uniform_bits", shared.get("uniform_width", 0))),
        fingerprint=str(shared["measurement"]),
        settings=dict(shared["choices"]),
        made=float(shared["made"]),
        notes=tuple(shared.get("notes", ())),
    )


def accuracy_frame(measured: Measurement) -> pd.DataFrame:
    """Rows model × task: columns model, task, accuracy, low, high (shares with a 95 % interval), items."""
    rows = []
    for model in MODELS:
        answers = [answer for answer in measured.scores[model].answers if answer.correct is not None]
        for task in dict.fromkeys(answer.task or "no task" for answer in answers):
            values = [float(a.correct) for a in answers if (a.task or "no task") == task]
            mean, low, high = bootstrap_interval(values)
            rows.append((measured.label(model), task, mean, low, high, len(values)))
    return pd.DataFrame(rows, columns=["model", "task", "accuracy", "low", "high", "items"])


def divergence_frame(measured: Measurement) -> pd.DataFrame:
    """Rows allocation and uniform: KL to the original in nats and agreement of the top token, by modality.

    A modality without samples is NaN, not zero; without columns if few runs have it (sounds).
    """
    rows = []
    for model in (ALLOCATION, UNIFORM):
        scores = measured.scores[model]
        kl, same = scores.kl_by_modality, scores.agreement_by_modality
        cells = [table.get(modality, np.nan) for table in (kl, same) for modality in names.ON]
        rows.append((measured.label(model), *cells))
    frame = pd.DataFrame(rows, columns=["model", *KL_COLUMNS, *SAME_COLUMNS])
    rare = {f"{what} {words}" for what in ("KL", "same token") for kind, words in names.ON.items() if kind not in USUAL}
    return frame.drop(columns=[column for column in rare if frame[column].isna().all()])


def size_frame(measured: Measurement) -> pd.DataFrame:
    """Rows original, allocation, uniform: predicted and measured bytes of all experts, and share of the original."""
    rows = [
        (measured.label(model), measured.predicted_bytes[model], measured.measured_bytes[model]) for model in MODELS
    ]
    frame = pd.DataFrame(rows, columns=["model", "predicted bytes", "measured bytes"])
    frame["of original"] = frame["measured bytes"] / frame["measured bytes"].iloc[0]
    return frame


def loss_sentence(measured: Measurement, model: str) -> tuple[str, str]:
    """The change of accuracy against the original on the same items, and how to colour it.

    The change is in points with its 95 % interval; "off" (grey) where the two are not told apart, else "normal".
    """
    change = paired(measured.scores[model], measured.scores[ORIGINAL], "correct")
    text = f"{100 * change.mean:+.1f} points ({100 * change.low:+.1f} to {100 * change.high:+.1f})"
    return text, "off" if change.verdict == "level" else "normal"
