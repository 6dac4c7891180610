"""Which importance estimate is best, measured: every method at the same memory on the same items, with intervals."""

from mode_core.comparison.comparing import compare
from mode_core.comparison.draws import fold_draws
from mode_core.comparison.items import ItemScores, PreparedItems
from mode_core.comparison.records import Evidence, EvidenceError
from mode_core.comparison.settings import ComparisonSettings
from mode_core.comparison.switching import RoundedExperts

__all__ = [
    "ComparisonSettings",
    "Evidence",
    "EvidenceError",
    "ItemScores",
    "PreparedItems",
    "RoundedExperts",
    "compare",
    "fold_draws",
]
