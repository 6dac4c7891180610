"""How good a model still is after quantization: answers, accuracy, and distance from the original.

Names are fetched on first use: kept scores are read without torch.
"""

from typing import TYPE_CHECKING

from mode_core.on_first_use import on_first_use

if TYPE_CHECKING:
    from mode_core.evaluation.answer_rows import AnswerRow, side_by_side
    from mode_core.evaluation.answers import ask
    from mode_core.evaluation.intervals import Interval, bootstrap_interval, bootstrap_perplexity
    from mode_core.evaluation.records import Answer, ScoredAnswer, Scores, ScoresError, normalised
    from mode_core.evaluation.reference import Reference, ReferenceMissing, record_reference
    from mode_core.evaluation.scoring import evaluate
    from mode_core.evaluation.verdicts import Paired, paired

__getattr__ = on_first_use(__name__, __file__)
