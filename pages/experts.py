"""Experts: who uses which expert, by kind of token, above what quantizing it would break."""

from __future__ import annotations

import streamlit as st

from dashboard.parts import served
from dashboard.parts.controls import coverage_note, scroll_now
from dashboard.parts.experts import by_task, close_up, exemplars, maps, pairs, search, starving
from dashboard.state import current_run


def page() -> None:
    """Everything below the title follows the controls without a rerun of the whole page."""
    current_run.statistics()  # says what to do where there is no run yet
    explore()


@st.fragment
def explore() -> None:
    """What counting hides, the maps with one expert beside them, and what lies behind both."""
    grid, sensitivity = maps.frequency_grid(), maps.sensitivity_grid()
    bank, expert = current_run.selected()
    place = (grid.axes.names.index(bank), expert)
    with st.container(gap="xxsmall"):  # all maps shall be in the first view
        starving.headline(grid)
        served.note()
    with st.container(key="stage-experts", gap="xxsmall"):
        slot, arranged = maps.draw_controls(grid)
        left, right = st.columns([2.5, 1], gap="small")
        with left:
            maps.draw_maps(slot, grid, sensitivity, arranged, place)
            close_up.jumps(grid.axes, place)
            coverage_note()
            search.part(grid.axes)
            exemplars.part(bank, expert)
        with right:
            close_up.docked(grid, sensitivity, place)
    close_up.below(grid, place)
    by_task.part(bank, expert, None if arranged.columns is None else arranged.columns[place[0]])
    pairs.part(bank, expert)
    with st.expander("Traffic in place of the calibration's frequencies", key="served"):
        served.part()
    scroll_now()


page()
