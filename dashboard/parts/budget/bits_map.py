"""The bits of every expert as a map, how many have each width, and which moved since the last setting."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from dashboard import charts
from dashboard.charts.bits import MOST_DOTS
from dashboard.components import before_change, chart, show_table
from dashboard.parts.budget import halves
from dashboard.state import address, current_run, estimating, solving
from dashboard.words import names, tables
from mode_core.allocation import Allocation
from mode_core.importance import CostTable

Bits = Mapping[str, np.ndarray]


def laid_out(bits: Bits) -> tuple[charts.Axes, Bits]:
    """Axes and bits as they are drawn: halves of experts beside each other where their bits differ."""
    axes = charts.Axes.of(current_run.statistics())
    return (halves.split_axes(axes), halves.split_bits(bits)) if halves.is_split(bits) else (axes, bits)


def costs_shown(bits: Bits) -> CostTable:
    """The chosen method's costs by the rows of `laid_out`."""
    return halves.split_costs(solving.split_costs()) if halves.is_split(bits) else solving.costs()


def figure(allocation: Allocation, at_rest: bool = False) -> go.Figure:
    """The map, with dots where bits moved. What takes a while waits until no slider is held: hatching where bits hang
    on the samples, and what each width would cost, on hover."""
    axes, bits = laid_out(allocation.bits)
    more = {"unsettled": _unsettled(), "costs": costs_shown(allocation.bits)} if at_rest else {}
    entries = names.of_experts(halves.is_split(allocation.bits))
    return charts.bit_map(axes, bits, allocation.widths, _earlier(axes, bits), entries=entries, **more)


def nothing(why: str) -> go.Figure:
    """In place of the map."""
    return charts.no_bits(charts.Axes.of(current_run.statistics()), why)


def part(allocation: Allocation) -> None:
    """The map and its table; beside it the widths by layer, and what moved."""
    axes, bits = laid_out(allocation.bits)
    left, right = st.columns([1.9, 1], gap="medium")
    with left:
        chart(figure(allocation, at_rest=True), "bits", follows=True,
              table=lambda: tables.allocation_table(axes, bits, costs_shown(allocation.bits)))  # fmt: skip
    with right:
        chart(charts.width_counts(axes, bits, allocation.widths), "counts",
              table=lambda: tables.counts_table(axes, bits, allocation.widths))  # fmt: skip
        before = _earlier(axes, bits)
        entries = names.of_experts(halves.is_split(allocation.bits))
        _moved(None if before is None else tables.moves_table(axes, before, bits), entries)


def _earlier(axes: charts.Axes, bits: Bits) -> Bits | None:
    """The bits before the present change of the settings, where they are of the same experts."""
    before = before_change("budget:before", address.choices(), bits)
    same = dict(zip(axes.names, axes.experts, strict=True))
    if before is None or {name: len(row) for name, row in before.items()} != same:
        return None  # another run, or another unit, was open then
    return before


def _unsettled() -> Bits | None:
    """Share of the folds without which an expert gets other bits, laid out as the map; not while a slider is held."""
    found = estimating.stability()
    return None if found is None else laid_out(found.changed)[1]


def _moved(rows: pd.DataFrame | None, entries: str) -> None:
    """Experts whose bits moved since the last setting."""
    if rows is None:
        st.caption("Change a setting to see which experts' bits move; moved ones get a dot on the map.")
    elif rows.empty:
        st.caption("No expert's bits moved since the last setting.")
    else:
        dots = " (dots on the map)" if len(rows) <= MOST_DOTS else ""
        more = int((rows["bits_after"] > rows["bits_before"]).sum())
        with st.popover(f"{len(rows):,} {entries} moved", type="tertiary", on_change="rerun", key="moved") as shown:
            if shown.open:
                show_table(rows, height=260)
        st.caption(f"Since the last setting {more:,} got more bits and {len(rows) - more:,} fewer{dots}.")
