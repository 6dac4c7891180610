"""Which importance estimate is best, measured: every method at the same memory on the same items, with intervals.

Names are fetched on first use: evidence is read without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mode_core.comparison.anchoring import measure_anchor
    from mode_core.comparison.checking import CheckSettings, check, check_cost, check_run
    from mode_core.comparison.comparing import compare
    from mode_core.comparison.draws import fold_draws
    from mode_core.comparison.items import ItemScores, PreparedItems
    from mode_core.comparison.passing import RoundedInPassing
    from mode_core.comparison.records import Evidence, EvidenceError
    from mode_core.comparison.settings import ComparisonSettings
    from mode_core.comparison.switching import RoundedExperts

_HOMES = {
    "CheckSettings": "checking",
    "ComparisonSettings": "settings",
    "Evidence": "records",
    "EvidenceError": "records",
    "ItemScores": "items",
    "PreparedItems": "items",
    "RoundedExperts": "switching",
    "RoundedInPassing": "passing",
    "check": "checking",
    "check_cost": "checking",
    "check_run": "checking",
    "compare": "comparing",
    "fold_draws": "draws",
    "measure_anchor": "anchoring",
}
__all__ = [
    "CheckSettings",
    "ComparisonSettings",
    "Evidence",
    "EvidenceError",
    "ItemScores",
    "PreparedItems",
    "RoundedExperts",
    "RoundedInPassing",
    "check",
    "check_cost",
    "check_run",
    "compare",
    "fold_draws",
    "measure_anchor",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
