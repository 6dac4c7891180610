"""Predicted damage: at every budget, and in which layers it sits."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from dashboard import charts
from dashboard.charts.measures import frontier_of
from dashboard.components import chart
from dashboard.parts.budget import halves
from dashboard.parts.budget.bits_map import costs_shown, laid_out
from dashboard.state import address, estimating, solving
from dashboard.words import names, tables
from dashboard.words.sizes import memory_unit
from mode_core.allocation import Allocation, scope_warning


def part(allocation: Allocation, rival: Allocation) -> None:
    """Both charts beside each other."""
    left, right = st.columns(2, gap="medium")
    with left:
        chart(curve(allocation, address.choices().budget_unit == "MB"), "frontier",
              table=lambda: tables.frontier_table(frontier_of(solving.solver())))  # fmt: skip
    with right:
        columns = ("predicted_damage", f"predicted_damage, {estimating.uniform_name(rival)}")
        chart(by_layer(allocation, rival), "layers",
              table=lambda: tables.bias_table(laid_out(allocation.bits)[0],
                                              dict(zip(columns, _damages(allocation, rival), strict=True))),
              )  # fmt: skip


def warn(allocation: Allocation) -> None:
    """Where one budget for the model rests on costs that do not compare between layers."""
    if allocation.scope == "model" and (warning := scope_warning(costs_shown(allocation.bits))):
        warning = warning.replace(f"method '{allocation.method}'", names.method(allocation.method))
        st.warning(warning, icon=":material/warning:")


def curve(allocation: Allocation, in_memory: bool) -> go.Figure:
    """At every budget, in the unit of the slider: the uniform widths, this budget, and what other methods reach."""
    line, memory = frontier_of(solving.solver()), memory_unit(solving.size_range()[1])

    def across(one: Allocation) -> float:
        return one.bytes / memory.size if in_memory else one.average_bits

    axis = line.bytes / memory.size if in_memory else line.average_bits
    ends = line.uniform_bytes / memory.size if in_memory else line.uniform_bits
    uniform = list(zip(line.uniform_bits.tolist(), ends.tolist(), line.uniform_objective.tolist(), strict=True))
    others = [(names.method(name), across(rival), damage) for name, rival, damage in solving.rivals()]
    here, unit = (across(allocation), allocation.objective), memory.name if in_memory else "bits on average"
    return charts.frontier_chart(axis, line.objective, uniform, here, unit, others)


def by_layer(allocation: Allocation, rival: Allocation) -> go.Figure:
    """Where it sits, beside uniform bits of the same size."""
    ticks = laid_out(allocation.bits)[0].ticks
    return charts.damage_by_layer(ticks, *_damages(allocation, rival), estimating.uniform_name(rival))


def _damages(allocation: Allocation, rival: Allocation) -> list[np.ndarray]:
    """Damage of each row of the map, of both, `[L]` each."""
    costs, (axes, bits) = costs_shown(allocation.bits), laid_out(allocation.bits)
    same = halves.split_bits(rival.bits) if halves.is_split(allocation.bits) else rival.bits
    return [tables.damage_by_bank(axes, costs, each) for each in (bits, same)]
