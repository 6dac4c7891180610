"""What several models said to the same samples, in one row a sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mode_core.errors import SettingsError
from mode_core.evaluation.records import Scores, normalised


@dataclass(frozen=True)
class AnswerRow:
    """One sample and what every model said to it; `correct[model]` is None where nothing was expected."""

    id: str
    modality: str
    task: str | None
    question: str
    expected: str | None
    given: dict[str, str]
    correct: dict[str, bool | None]

    @property
    def differs(self) -> bool:
        """True where the models do not all say the same, `normalised`."""
        return len({normalised(text) for text in self.given.values()}) > 1


def side_by_side(scores: Mapping[str, Scores]) -> list[AnswerRow]:
    """Model name → scores, all of the same samples in the same order → one row per sample, in that order.

    Raises:
        SettingsError: no scores, or scores of different samples; the text names the two models.
    """
    if not scores:
        raise SettingsError("There are no scores to put side by side; give those of at least one model.")
    first, *others = scores
    ids = [answer.id for answer in scores[first].answers]
    for name in others:
        if [answer.id for answer in scores[name].answers] != ids:
            raise SettingsError(f"{first!r} and {name!r} were not evaluated on the same samples in the same order.")
    return [
        AnswerRow(
            answers[0].id,
            answers[0].modality,
            answers[0].task,
            answers[0].question,
            answers[0].expected,
            {name: answer.given for name, answer in zip(scores, answers, strict=True)},
            {name: answer.correct for name, answer in zip(scores, answers, strict=True)},
        )
        for answers in zip(*(scores[name].answers for name in scores), strict=True)
    ]
