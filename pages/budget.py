"""Budget: where the model is to run, and how many bits every expert gets, solved again while the budget is dragged."""

from __future__ import annotations

import streamlit as st

from dashboard.components import Readout, changes, readout
from dashboard.parts import served
from dashboard.parts.budget import bits_map, budget_slider, damage, deployment, panels, settings, starting_point
from dashboard.parts.budget.budget_words import headline, metrics
from dashboard.state import current_run, solving
from dashboard.words.plain import plain
from mode_core.allocation import AllocationError
from mode_core.importance import ImportanceError

NONE = "There is no allocation for these settings."


def page() -> None:
    """Everything below the title follows the controls without a rerun of the whole page."""
    current_run.statistics()  # says what to do where there is no run yet
    st.title("Budget")
    plan()


@st.fragment
def plan() -> None:
    """Engine and card, the budget, what it buys, and which expert gets what."""
    budget_slider.keep_in_range()
    with st.container(gap="xsmall"):  # so that the map is in view whole with the slider
        deployment.row()
        sentence, budget, figures = st.container(gap="xsmall"), st.container(), st.container()
    advice = settings.part(follow)
    bits, below = st.container(), st.container()
    with below:
        panels.part()
    with budget:
        slot = budget_slider.row()
    try:
        allocation = solving.allocation()
        rival = solving.uniform_like(allocation)
    except (AllocationError, ImportanceError) as impossible:
        sentence.markdown(NONE)
        bits.error(plain(impossible), icon=":material/error:")
    else:
        with sentence:
            readout(headline(allocation, rival), "headline")
            with advice if starting_point.goes_without_saying(allocation) else st.container():
                starting_point.part(allocation)
            served.note()
            deployment.verdict(allocation)
        with figures:
            readout(metrics(allocation, rival), "figures")
        with bits:
            damage.warn(allocation)
            bits_map.part(allocation)
        damage.part(allocation, rival)
    with slot:
        budget_slider.draw(follow)


@current_run.once
def follow() -> str:
    """What every step of a dragged slider changes: the sentence, the figures, the bits of every expert."""
    try:
        allocation = solving.allocation()
        rival = solving.uniform_like(allocation)
    except (AllocationError, ImportanceError) as impossible:
        told = {"headline": Readout(NONE, str(impossible)), "figures": Readout()}
        return changes({"bits": bits_map.nothing("No allocation within this budget.")}, told)
    told = {"headline": headline(allocation, rival), "figures": metrics(allocation, rival)}
    return changes({"bits": bits_map.figure(allocation)}, told)


page()
