"""The nouns of evaluation: one answer, and the scores of one model on one set of samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, Literal, NotRequired

import numpy as np
from annotated_types import Ge, Le
from typing_extensions import TypedDict

from mode_core.errors import ScoresError, SettingsError
from mode_core.evaluation.intervals import Interval, bootstrap_interval, bootstrap_perplexity
from mode_core.json_files import CLOSED, OPEN, Amount, Count, Name, Time, Width, check_format, checked
from mode_core.modalities import MODALITIES

ORIGINAL, ALLOCATION, UNIFORM = "original", "allocation", "uniform"
MODELS = (ORIGINAL, ALLOCATION, UNIFORM)  # of a measurement: uniform bits are the allocation's rival
FORMAT = "mode-scores/1"
Share = Annotated[float, Ge(0), Le(1)]


class _Answer(TypedDict):
    """A `ScoredAnswer`."""

    __pydantic_config__ = CLOSED
    id: Name
    modality: Literal[tuple(MODALITIES)]
    task: NotRequired[str | None]
    question: NotRequired[str]
    expected: NotRequired[str | None]
    given: NotRequired[str]
    correct: NotRequired[bool | None]
    kl: NotRequired[Amount | None]
    agreement: NotRequired[Share | None]
    answer_loss: NotRequired[Amount | None]
    answer_tokens: NotRequired[Count]


class _Record(TypedDict):
    """Scores as JSON holds them; the summary is for readers, and not read back."""

    __pydantic_config__ = OPEN
    format: str
    seconds: Amount
    kl_exact: bool
    settings: dict[str, Any]
    answers: list[_Answer]


class _Origin(TypedDict, total=False):
    """What the verb `evaluate` says of what was scored; further settings are kept as they are."""

    __pydantic_config__ = OPEN
    allocation: str
    packed: str
    average_bits: Amount
    quantizer: dict[str, Any]
    request: dict[str, Any]
    made: Time


class _Asked(TypedDict, total=False):
    """What is told of a request; its other fields are kept as they are."""

    __pydantic_config__ = OPEN
    method: str
    key_ratio: Amount
    widths: list[Width]
    budget: Amount
    measure: str
    average_bits: Amount  # of earlier versions


class _Choices(_Asked, total=False):
    """Those choices that are told of a measurement; earlier versions had the request's fields one by one."""

    budget_unit: str
    megabytes: Amount | None
    request: _Asked


class _Measured(TypedDict):
    """The settings of one of the three models of a measurement (`measurement`), which lie together under one seal."""

    __pydantic_config__ = OPEN
    measurement: Name
    model: Literal[MODELS]
    bytes: Count
    predicted: Count
    uniform_bits: NotRequired[Amount]
    uniform_width: NotRequired[Width]  # of earlier versions
    choices: _Choices
    made: Time
    notes: NotRequired[list[str]]


def normalised(answer: str) -> str:
    """How answers are compared: surrounding space off, case folded, runs of white space one blank."""
    return " ".join(answer.casefold().split())


@dataclass(frozen=True)
class Answer:
    """What a model said to one sample: text, its tokens as text, and each token's probability when chosen."""

    text: str
    tokens: tuple[str, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class ScoredAnswer:
    """One sample's result; None stands for what could not be measured.

    `modality` is vision where the sample has a picture. `correct`: exact match after `normalised`; None
    without an expected answer. `kl`: mean over the answer positions of KL(original ‖ this) in nats;
    `agreement`: share of answer positions where both rank the same token first; both need a reference.
    `answer_loss`: Σ −log p of the expected answer's tokens and of its end, `answer_tokens` how many.
    """

    id: str
    modality: str
    task: str | None = None
    question: str = ""
    expected: str | None = None
    given: str = ""
    correct: bool | None = None
    kl: float | None = None
    agreement: float | None = None
    answer_loss: float | None = None
    answer_tokens: int = 0


@dataclass(frozen=True)
class Scores:
    """Scores of one model on one set of samples: everything is an average over `answers`.

    Averages over no sample at all are absent from the mappings, not zero. `kl_exact` is False where the
    reference kept only the original's most likely tokens (see `Reference`): the KL is then a lower bound.
    """

    answers: tuple[ScoredAnswer, ...]
    seconds: float = 0.0
    kl_exact: bool = True
    settings: Mapping[str, object] = field(default_factory=dict)

    @property
    def accuracy(self) -> float | None:
        """Share of exact matches over all samples that have an answer."""
        return _mean(answer.correct for answer in self.answers)

    @property
    def accuracy_by_task(self) -> dict[str, float]:
        """Share of exact matches per task, in the order of first appearance."""
        tasks = dict.fromkeys(answer.task for answer in self.answers if answer.task is not None)
        means = {task: _mean(a.correct for a in self.answers if a.task == task) for task in tasks}
        return {task: mean for task, mean in means.items() if mean is not None}

    @property
    def task_accuracy(self) -> float | None:
        """Unweighted mean of the tasks' accuracies."""
        return _mean(self.accuracy_by_task.values())

    @property
    def accuracy_by_modality(self) -> dict[str, float]:
        """Share of exact matches of text and of vision samples."""
        return self._by_modality("correct")

    @property
    def kl_by_modality(self) -> dict[str, float]:
        """Mean KL(original ‖ this) in nats per answer position, of text and of vision samples."""
        return self._by_modality("kl")

    @property
    def agreement_by_modality(self) -> dict[str, float]:
        """Mean share of answer positions where the top token is the original's."""
        return self._by_modality("agreement")

    @property
    def perplexity_by_modality(self) -> dict[str, float]:
        """exp of the mean loss per token of the expected answers (their end included)."""
        return {m: p for m in MODALITIES if (p := self._perplexity(m)) is not None}

    @property
    def kl(self) -> float | None:
        """Mean KL(original ‖ this) over all samples, each weighing the same."""
        return _mean(answer.kl for answer in self.answers)

    @property
    def agreement(self) -> float | None:
        """Mean top-1 agreement with the original over all samples."""
        return _mean(answer.agreement for answer in self.answers)

    @property
    def perplexity(self) -> float | None:
        """exp of the mean loss per answer token over all samples."""
        return self._perplexity(None)

    def interval(
        self,
        measure: str = "correct",
        other: Scores | None = None,
        seed: int = 0,
        modality: str | None = None,
        task: str | None = None,
    ) -> Interval:
        """95 % bootstrap interval of a measure (`correct`, `kl`, `agreement`), or of its paired difference to `other`;
        of all samples, or of those of one modality and task.

        Raises:
            SettingsError: no sample has that measure, or the two scores are of different samples.
        """
        names, values = self.of(modality, task)._values(measure)
        if other is None:
            return bootstrap_interval(values, seed=seed)
        other_names, other_values = other.of(modality, task)._values(measure)
        if names != other_names:
            raise SettingsError("Only scores of the same samples, in the same order, can be compared in pairs.")
        return bootstrap_interval(values, other_values, seed=seed)

    def perplexity_interval(self, modality: str | None = None, task: str | None = None, seed: int = 0) -> Interval:
        """Perplexity of the expected answers with its 95 % bootstrap interval over samples.

        Raises:
            SettingsError: no sample has an expected answer.
        """
        chosen = [a for a in self.of(modality, task).answers if a.answer_loss is not None]
        return bootstrap_perplexity([a.answer_loss for a in chosen], [a.answer_tokens for a in chosen], seed)

    def of(self, modality: str | None = None, task: str | None = None) -> Scores:
        """The scores of the samples of one modality, and of one task; None: of all."""
        kept = [
            answer
            for answer in self.answers
            if modality in (None, answer.modality) and (task is None or answer.task == task)
        ]
        return replace(self, answers=tuple(kept))

    def summary(self) -> dict[str, object]:
        """All averages as plain numbers, without the single answers."""
        names = ("accuracy", "task_accuracy", "accuracy_by_task", "accuracy_by_modality", "kl", "kl_by_modality")
        names += ("agreement", "agreement_by_modality", "perplexity", "perplexity_by_modality")
        return {"samples": len(self.answers)} | {n: getattr(self, n) for n in names} | {"seconds": self.seconds}

    def to_dict(self) -> dict[str, object]:
        """As JSON holds it; the averages are in it for readers, and not read back."""
        return {
            "format": FORMAT,
            "summary": self.summary(),
            "seconds": self.seconds,
            "kl_exact": self.kl_exact,
            "settings": dict(self.settings),
            "answers": [asdict(answer) for answer in self.answers],
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, object], where: object = "The evaluation") -> Scores:
        """Read what `to_dict` gave, which lies at `where`.

        Raises:
            ScoresError: the record is no evaluation, a newer one, or damaged; the field is named.
        """
        check_format(record, FORMAT, where, ScoresError, "evaluation")
        found = checked(record, _Record, where, ScoresError)
        checked(found["settings"], _Measured if "measurement" in found["settings"] else _Origin, where, ScoresError)
        for place, answer in enumerate(found["answers"]):
            if answer.get("answer_loss") is not None and not answer.get("answer_tokens"):
                raise ScoresError(
                    f"{where} is damaged: answers.{place}.answer_tokens: a loss needs at least one token."
                )
        return cls(
            tuple(ScoredAnswer(**answer) for answer in found["answers"]),
            found["seconds"],
            found["kl_exact"],
            found["settings"],
        )

    def _values(self, measure: str) -> tuple[list[str], list[float]]:
        measured = [(a.id, float(v)) for a in self.answers if (v := getattr(a, measure)) is not None]
        return [name for name, _ in measured], [value for _, value in measured]

    def _by_modality(self, measure: str) -> dict[str, float]:
        means = {m: _mean(getattr(a, measure) for a in self.answers if a.modality == m) for m in MODALITIES}
        return {modality: mean for modality, mean in means.items() if mean is not None}

    def _perplexity(self, modality: str | None) -> float | None:
        chosen = [a for a in self.answers if a.answer_loss is not None and (modality is None or a.modality == modality)]
        if not chosen:
            return None
        return float(np.exp(sum(a.answer_loss for a in chosen) / sum(a.answer_tokens for a in chosen)))


def _mean(values: Iterable[float | bool | None]) -> float | None:
    """Mean of what is there; None where nothing is."""
    present = [float(value) for value in values if value is not None]
    return float(np.mean(present)) if present else None
