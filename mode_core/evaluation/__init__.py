"""How good a model still is after quantization: answers, accuracy, and distance from the original.

Names are fetched on first use: kept scores are read without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mode_core.evaluation.answer_rows import AnswerRow, side_by_side
    from mode_core.evaluation.answers import ask
    from mode_core.evaluation.intervals import Interval, bootstrap_interval, bootstrap_perplexity
    from mode_core.evaluation.records import Answer, ScoredAnswer, Scores, ScoresError, normalised
    from mode_core.evaluation.reference import Reference, ReferenceMissing, record_reference
    from mode_core.evaluation.scoring import evaluate

_HOMES = {
    "Answer": "records",
    "AnswerRow": "answer_rows",
    "Interval": "intervals",
    "Reference": "reference",
    "ReferenceMissing": "reference",
    "ScoredAnswer": "records",
    "Scores": "records",
    "ScoresError": "records",
    "ask": "answers",
    "bootstrap_interval": "intervals",
    "bootstrap_perplexity": "intervals",
    "evaluate": "scoring",
    "normalised": "records",
    "record_reference": "reference",
    "side_by_side": "answer_rows",
}
__all__ = [
    "Answer",
    "AnswerRow",
    "Interval",
    "Reference",
    "ReferenceMissing",
    "ScoredAnswer",
    "Scores",
    "ScoresError",
    "ask",
    "bootstrap_interval",
    "bootstrap_perplexity",
    "evaluate",
    "normalised",
    "record_reference",
    "side_by_side",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
