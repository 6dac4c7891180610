"""From statistics to what each expert is worth: frequencies, costs by many methods, biases, intervals."""

from mode_core.importance.costs import cost_table
from mode_core.importance.frequency import frequencies
from mode_core.importance.methods import METHODS, Method
from mode_core.importance.records import CostTable, Frequencies
from mode_core.importance.stacks import ImportanceError

__all__ = ["METHODS", "CostTable", "Frequencies", "ImportanceError", "Method", "cost_table", "frequencies"]
