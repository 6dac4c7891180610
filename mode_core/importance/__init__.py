"""From statistics to what each expert is worth: frequencies, costs by many methods, intervals."""

from mode_core.importance.costs import cost_table
from mode_core.importance.coverage import Coverage, coverage, coverage_sentences
from mode_core.importance.folds import Interval, frequency_intervals
from mode_core.importance.frequency import frequencies
from mode_core.importance.methods import METHODS, Method
from mode_core.importance.recommended import Recommendation, recommended
from mode_core.importance.records import CostTable, Frequencies
from mode_core.importance.stacks import ImportanceError
from mode_core.importance.support import Support, support, support_summary
