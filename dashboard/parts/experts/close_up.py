"""One expert close up, beside the maps; and below them its layer, and all layers."""

from __future__ import annotations

import numpy as np
import streamlit as st

from dashboard import charts
from dashboard.charts.measures import divergences
from dashboard.components import chart
from dashboard.parts.experts import search, why
from dashboard.state import current_run
from dashboard.words import tables
from mode_core.modalities import MODALITIES, counted_of


def docked(grid: charts.FrequencyGrid, sensitivity: charts.SensitivityGrid, place: tuple[int, int]) -> None:
    """The chosen expert: its frequencies, its error, and why it has its width."""
    row, expert = place
    st.subheader(f"Expert {expert} of layer {grid.axes.ticks[row]}", anchor="close-up")
    choose_expert(grid.axes, place)
    search.link(grid.axes.names[row], expert)
    size = grid.axes.experts[row]
    shares, counts = of_bank(grid, row)
    one, seen = ({kind: float(values[expert]) for kind, values in held.items()} for held in (shares, counts))
    chart(
        charts.expert_frequencies(one, seen, 1 / size, ranks(shares, expert)),
        "expert",
        table=lambda: tables.profile_table(shares, counts).iloc[[expert]],
    )
    why.part(grid.axes.names[row], expert)
    errors = {
        kind: sensitivity.errors[kind][row, expert] for kind in counted_of(MODALITIES) if kind in sensitivity.errors
    }
    typical = {kind: _median(sensitivity.errors[kind][row, :size]) for kind in errors}
    chart(
        charts.error_by_width(sensitivity.bits, errors, typical),
        "errors",
        table=lambda: tables.errors_table(sensitivity.bits, errors, typical),
    )


def jumps(axes: charts.Axes, place: tuple[int, int]) -> None:
    """On a phone all that stands beside the maps comes far below them: links there, which wide windows do not show."""
    row, expert = place
    with st.container(key="jumps"):
        st.markdown(f":material/arrow_downward: [Expert {expert} close up](#close-up) · "
                    f"[all experts of layer {axes.ticks[row]}](#layer-charts)")  # fmt: skip


def below(grid: charts.FrequencyGrid, place: tuple[int, int]) -> None:
    """All experts of the layer, and how far apart kinds of token are in every layer."""
    row, expert = place
    shares, counts = of_bank(grid, row)
    st.subheader(f"All experts of layer {grid.axes.ticks[row]}", anchor="layer-charts")
    left, right = st.columns(2, gap="medium")
    with left:
        chart(
            charts.bank_profile(shares, counts, f"Layer {grid.axes.ticks[row]}", expert),
            "profile",
            table=lambda: tables.profile_table(shares, counts),
        )
    with right:
        chart(
            charts.divergence_by_layer(grid.axes.ticks, divergences(grid)),
            "divergence",
            table=lambda: tables.bias_table(grid.axes, divergences(grid)),
        )


def of_bank(grid: charts.FrequencyGrid, row: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Shares and counts of one bank by kind of token, `[E]` each."""
    size = grid.axes.experts[row]
    return ({kind: values[row, :size] for kind, values in held.items()} for held in (grid.shares, grid.counts))


def ranks(shares: dict[str, np.ndarray], expert: int) -> dict[str, int]:
    """Place of an expert in its bank, 1 = busiest, by kind of token; kinds that did not come here are left out."""
    known = {kind: values for kind, values in shares.items() if np.isfinite(values).any()}
    return {kind: int((values > values[expert]).sum()) + 1 for kind, values in known.items()}


def _median(errors: np.ndarray) -> np.ndarray:
    """Median over the measured experts of a bank at each width: `[E, B]` → `[B]`."""
    known = errors[np.isfinite(errors).all(axis=1)]
    return np.median(known, axis=0) if len(known) else np.full(errors.shape[1], np.nan)


def choose_expert(axes: charts.Axes, place: tuple[int, int]) -> None:
    """Layer and expert by number; the same choice as a click on the maps."""
    left, right = st.columns([1.3, 1], vertical_alignment="bottom")
    st.session_state["experts-bank"], st.session_state["experts-expert"] = axes.names[place[0]], place[1]
    left.selectbox(
        "Layer",
        axes.names,
        format_func=dict(zip(axes.names, axes.ticks, strict=True)).get,
        key="experts-bank",
        on_change=lambda: current_run.select(bank=st.session_state["experts-bank"], expert=0),
    )
    right.number_input(
        f"Expert, of {axes.experts[place[0]]}",
        min_value=0,
        max_value=axes.experts[place[0]] - 1,
        step=1,
        key="experts-expert",
        on_change=lambda: current_run.select(expert=int(st.session_state["experts-expert"])),
        help="Or click a cell of the maps; with the maps in focus the arrow keys move.",
    )
