"""From costs to bits: exact allocations under a budget, proven optimal, at the speed of a slider."""

from mode_core.allocation.frontier import Frontier, frontier
from mode_core.allocation.prices import Price, prices, worth_of_a_bit
from mode_core.allocation.records import Allocation, AllocationError
from mode_core.allocation.solver import Solver, allocate, scope_warning, uniform_allocation
from mode_core.allocation.units import SCOPES, UNITS
