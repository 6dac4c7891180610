"""Which importance estimate is best, measured: every method at the same memory on the same items, with intervals.

Evidence is read without torch: names that need it are fetched on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from mode_core.comparison.draws import fold_draws
from mode_core.comparison.records import Evidence, EvidenceError
from mode_core.comparison.settings import ComparisonSettings

if TYPE_CHECKING:
    from mode_core.comparison.anchoring import measure_anchor
    from mode_core.comparison.checking import CheckSettings, check, check_cost, check_run
    from mode_core.comparison.comparing import compare
    from mode_core.comparison.items import ItemScores, PreparedItems
    from mode_core.comparison.passing import RoundedInPassing
    from mode_core.comparison.switching import RoundedExperts

_WITH_TORCH = {
    **{"ItemScores": "items", "PreparedItems": "items", "RoundedExperts": "switching", "RoundedInPassing": "passing"},
    **{"CheckSettings": "checking", "check": "checking", "check_cost": "checking", "check_run": "checking"},
    **{"compare": "comparing", "measure_anchor": "anchoring"},
}
__all__ = [
    "CheckSettings", "ComparisonSettings", "Evidence", "EvidenceError", "ItemScores", "PreparedItems", "RoundedExperts",
    "RoundedInPassing", "check", "check_cost", "check_run", "compare", "fold_draws", "measure_anchor",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _WITH_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WITH_TORCH[name]}"), name)
