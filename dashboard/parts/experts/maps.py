"""The maps of all experts, how they are arranged, and the choice of one expert on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from dashboard import charts
from dashboard.charts.sensitivity import KINDS
from dashboard.components import changes, chart
from dashboard.parts.controls import key_ratio_slider
from dashboard.state import address, current_run, solving
from dashboard.words import names, tables
from dashboard.words.glossary import explain
from mode_core.modalities import RANKED, TEXT_TOKENS, counted_of

HELP_VIEW = (
    "Load: share of a kind's tokens, as a multiple of an even share of the layer. Rank: 1 is the busiest of the layer. "
    "Ratio: how many times one kind's share is another's. Specialisation: text against denoised vision, greyed where "
    "an expert gets little of either."
)


@dataclass(frozen=True)
class Arrangement:
    """What the maps show, and in which order: rows `[L]`, columns `[L, E]` or None. Both stay while a slider is held,
    so that nothing jumps."""

    view: str
    kind: str
    bits: int
    rows: np.ndarray
    columns: np.ndarray | None

    def figure(
        self, grid: charts.FrequencyGrid, sensitivity: charts.SensitivityGrid, selected: tuple[int, int]
    ) -> go.Figure:
        """The maps of these frequencies and errors, with the crosshair over (bank row, expert)."""
        return charts.expert_maps(
            grid, sensitivity, self.bits, view=self.view, kind=self.kind, rows=self.rows, columns=self.columns,
            selected=selected,
        )  # fmt: skip


def frequency_grid() -> charts.FrequencyGrid:
    """Shares of every kind of token under the present key ratio and signal."""
    now = address.choices().request
    return charts.FrequencyGrid.of(current_run.statistics(), solving.frequencies(), now.key_ratio, now.signal)


def sensitivity_grid() -> charts.SensitivityGrid:
    """Errors of every kind of token under the same."""
    now = address.choices().request
    return charts.SensitivityGrid.of(current_run.statistics(), now.key_ratio, now.signal)


def draw_controls(grid: charts.FrequencyGrid) -> tuple[st.container, Arrangement]:
    """The place of the key ratio's slider, and the arrangement chosen."""
    slider, view, more = st.columns([1.5, 1.2, 0.55], vertical_alignment="bottom")
    with view:
        chosen = _switch("Show", charts.VIEWS, "load", "view", HELP_VIEW)
    with more.popover("Arrange", icon=":material/tune:", width="stretch"):
        rows = _switch("Layers", charts.LAYER_ORDERS, "depth", "layers")
        columns = _switch("Experts of a layer", charts.ORDERS, "index", "order")
        widths = {width: f"{width} bits" if width > 1 else "1 bit" for width in current_run.statistics().bits}
        bits = _switch("Sensitivity at", widths, _middle(tuple(widths)), "width")
        kind = _switch("on", {kind: KINDS[kind] for kind in KINDS if kind in grid.shares}, TEXT_TOKENS, "tokens")
        st.selectbox(
            "Redundancy signal",
            [*current_run.statistics().signals, "none"],
            format_func=names.signal,
            help=explain("redundancy signal"),
            **address.bind("signal"),
        )
    return slider.container(), Arrangement(
        chosen, kind, bits, charts.layer_order(grid, rows), charts.expert_order(grid, columns)
    )


def _switch(label: str, options: Mapping[Any, str], default: Any, name: str, told: str | None = None) -> Any:
    """A choice of view that stands in the address under `name`."""
    bound = address.bind_place(name, list(options), default)
    return st.segmented_control(label, list(options), format_func=options.get, required=True, help=told, **bound)


def _middle(widths: tuple[int, ...]) -> int:
    return 3 if 3 in widths else sorted(widths)[len(widths) // 2]


def draw_maps(
    slot: st.container,
    grid: charts.FrequencyGrid,
    sensitivity: charts.SensitivityGrid,
    arranged: Arrangement,
    place: tuple[int, int],
) -> None:
    """All maps in one figure; the slider in `slot` changes it in place while it is held."""
    chart(
        arranged.figure(grid, sensitivity, place),
        "maps",
        follows=True,
        table=lambda: tables.frequency_table(grid).merge(tables.sensitivity_table(sensitivity)),
        on_pick=lambda what: pick(grid.axes, arranged, what),
    )

    @current_run.once
    def follow() -> str:
        """What every step of the dragged key ratio changes."""
        errors = sensitivity_grid() if arranged.kind in counted_of(RANKED) else sensitivity
        return changes({"maps": arranged.figure(frequency_grid(), errors, place)})

    with slot:
        key_ratio_slider(follow)


def pick(axes: charts.Axes, arranged: Arrangement, what: dict) -> None:
    """A place on the maps, clicked or reached by keys, chooses its expert."""
    row, column = (int(number) for number in what["place"])
    if not (0 <= row < len(axes.names) and 0 <= column < axes.experts[int(arranged.rows[row])]):
        return
    bank, expert = charts.expert_at(arranged.rows, arranged.columns, (row, column))
    current_run.select(bank=axes.names[bank], expert=expert)
