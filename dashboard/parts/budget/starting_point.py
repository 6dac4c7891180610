"""Which estimate is set, why it is recommended, the way to the other one, and the way out of uniform bits."""

from __future__ import annotations

import streamlit as st

from dashboard.state import address, estimating
from dashboard.words import names
from dashboard.words.plain import plain
from mode_core.allocation import Allocation
from mode_core.importance import Recommendation
from mode_core.request import AllocationRequest


def advised_now() -> bool:
    """Is what the open run recommends set?"""
    now, settings = address.choices().request, estimating.recommended().settings
    return settings == {name: getattr(now, name) for name in settings}


def goes_without_saying(allocation: Allocation) -> bool:
    """The recommended estimate is set, and shares bits out: then the sentence may stand with the settings."""
    return advised_now() and estimating.nearly_uniform(allocation) is None


def part(allocation: Allocation) -> None:
    """What is set and what is recommended, in one row with the buttons that apply; why unfolds."""
    now, advised, mine = address.choices().request, estimating.recommended(), advised_now()
    paper = all(getattr(now, name) == value for name, value in estimating.PAPER.items())
    own = "" if mine else f"Set: {_words(now)}. "
    told, asked = st.columns([3, 2], vertical_alignment="center")
    told.caption(f"{own}Recommended{' and set' * mine}: {_words(advised)}.")
    with asked.container(horizontal=True, gap="xsmall", horizontal_alignment="right"):
        with st.popover("Why", type="tertiary", key="why-advised"):
            st.caption(plain(advised.why))
        if now.scope == "bank" and now.method != "uniform" and estimating.nearly_uniform(allocation):
            _settings_button("Share bits out over the whole model", "model-wide", estimating.across_layers())
        if not paper:
            _settings_button("The paper's MODE", "as-in-paper", estimating.PAPER)
        if not mine:
            _settings_button("Recommended estimate", "as-advised", advised.settings)


def _words(estimate: AllocationRequest | Recommendation) -> str:
    """'MODE (each layer, drawn to the mean by 0.85)'."""
    share = f"{names.SCOPES[estimate.scope].lower()}, drawn to the mean by {estimate.shrinkage:g}"
    return f"{names.method(estimate.method)} ({share})"


def _settings_button(label: str, key: str, settings: dict[str, object]) -> None:
    st.button(label, key=key, on_click=lambda: address.choose(**settings))
