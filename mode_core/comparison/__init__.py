"""Which importance estimate is best, measured: every method at the same memory on the same items, with intervals.

Evidence is read without torch: names that need it are fetched on first use.
"""

from typing import TYPE_CHECKING

from mode_core.comparison.draws import fold_draws
from mode_core.comparison.settings import CheckSettings, ComparisonSettings
from mode_core.on_first_use import on_first_use
from mode_core.runs.evidence import Evidence, EvidenceError

if TYPE_CHECKING:
    from mode_core.comparison.anchoring import measure_anchor
    from mode_core.comparison.checking import check, check_cost, check_run
    from mode_core.comparison.comparing import compare
    from mode_core.comparison.items import ItemScores, PreparedItems
    from mode_core.comparison.rounded_forward import RoundedInPassing
    from mode_core.comparison.width_switch import RoundedExperts

__getattr__ = on_first_use(__name__, __file__)
