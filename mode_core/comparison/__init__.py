"""Which importance estimate is best, measured: every method at the same memory on the same items, with intervals.

Evidence is read without torch: names that need it are fetched on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from mode_core.comparison.draws import fold_draws
from mode_core.comparison.records import Evidence, EvidenceError
from mode_core.comparison.settings import ComparisonSettings

if TYPE_CHECKING:
    from mode_core.comparison.comparing import compare
    from mode_core.comparison.items import ItemScores, PreparedItems
    from mode_core.comparison.switching import RoundedExperts

_WITH_TORCH = {"ItemScores": "items", "PreparedItems": "items", "RoundedExperts": "switching", "compare": "comparing"}
__all__ = [
    "ComparisonSettings", "Evidence", "EvidenceError", "ItemScores", "PreparedItems", "RoundedExperts", "compare",
    "fold_draws",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _WITH_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WITH_TORCH[name]}"), name)
