"""How good a model still is after quantization: answers, accuracy, and distance from the original."""

from mode_core.evaluation.answers import ask
from mode_core.evaluation.intervals import Interval, bootstrap_interval
from mode_core.evaluation.records import Answer, ScoredAnswer, Scores, ScoresError, normalised
from mode_core.evaluation.reference import Reference, ReferenceMissing, record_reference
from mode_core.evaluation.scoring import evaluate

__all__ = [
    "Answer",
    "Interval",
    "Reference",
    "ReferenceMissing",
    "ScoredAnswer",
    "Scores",
    "ScoresError",
    "ask",
    "bootstrap_interval",
    "evaluate",
    "normalised",
    "record_reference",
]
