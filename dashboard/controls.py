"""Controls that stand on more than one page and set the same choice there."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from dashboard import session
from dashboard.components import live_slider
from dashboard.glossary import explain


def key_ratio_slider(follow: Callable[[], str]) -> None:
    """The share of vision tokens that count as key, 1 to 100 %; without a redundancy signal there is none to set.

    `follow`: what changes while it is dragged, as for `live_slider`.
    """
    now = session.choices()
    live_slider(
        "Key vision tokens (key ratio)",
        low=1,
        high=100,
        step=1,
        value=100 * now.key_ratio,
        unit=" %",
        key="ratio",
        help=explain("key ratio"),
        on_change=lambda percent: session.choose(key_ratio=round(percent) / 100),
        follow=follow,
        disabled=now.signal == "none",
    )


def next_step(label: str, page: str) -> None:
    """A quiet button that leads on to another page, with everything as it is set."""
    if st.button(label, key=f"next:{page}", type="tertiary", icon=":material/arrow_forward:"):
        session.go(page)
