"""Controls and notes that stand on more than one page, and set or say the same there."""

from __future__ import annotations

import json
from collections.abc import Callable

import streamlit as st

from dashboard.components import live_slider
from dashboard.state import address, current_run
from dashboard.words.glossary import explain
from dashboard.words.plain import plain
from mode_core.importance import coverage_sentences
from mode_core.statistics import ExpertStatistics


def key_ratio_slider(follow: Callable[[], str]) -> None:
    """The share of vision tokens that count as key, 1 to 100 %; without a redundancy signal there is none to set.

    `follow`: what changes while it is dragged, as for `live_slider`.
    """
    now = address.choices().request
    live_slider(
        "Key vision tokens (key ratio)",
        low=1,
        high=100,
        step=1,
        value=100 * now.key_ratio,
        unit=" %",
        key="ratio",
        help=explain("key ratio"),
        on_change=lambda percent: address.choose(key_ratio=round(percent) / 100),
        follow=follow,
        disabled=now.signal == "none",
    )


def next_step(label: str, page: str) -> None:
    """A quiet button that leads on to another page, with everything as it is set."""
    if st.button(label, key=f"next:{page}", type="tertiary", icon=":material/arrow_forward:"):
        address.go(page)


def change_budget(refused: Exception) -> None:
    """Why there is no allocation, and the way to where that is mended."""
    st.error(plain(refused), icon=":material/error:")
    if st.button("Change the budget", type="primary"):
        address.go("budget")


def coverage_note() -> None:
    """Which experts of the open run saw too few tokens, and about how many samples more would cover them."""
    told = _uncovered(current_run.run_key(), current_run.calibrated())
    if told:
        st.caption(told)


@st.cache_data(max_entries=64, show_spinner=False)
def _uncovered(key: tuple, _statistics: ExpertStatistics) -> str:
    return " ".join(f"{told[0].upper()}{told[1:]}." for told in coverage_sentences(_statistics, listed=2).values())


_SCROLL = "<script>document.getElementById({anchor})?.scrollIntoView({{ behavior: 'smooth' }})</script>"
_WANTED = "scroll-to"  # in the session: where to, once the page is drawn


def scroll_later(anchor: str) -> None:
    """In a callback, or before a rerun: bring this heading into view when the page is drawn next."""
    st.session_state[_WANTED] = anchor


def scroll_now() -> None:
    """Last on a page, so that nothing else changes its place: bring what was asked for into view."""
    if (anchor := st.session_state.pop(_WANTED, None)) is not None:
        st.html(_SCROLL.format(anchor=json.dumps(anchor)), unsafe_allow_javascript=True)
