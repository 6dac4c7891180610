"""What can be tried in each lesson once its answer is shown: one control a lesson."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from dashboard.charts.grids import Axes
from dashboard.components import live_slider
from dashboard.state import address, current_run, solving
from dashboard.words import names
from dashboard.words.glossary import explain
from mode_core.modalities import KEY_TOKENS, TEXT_TOKENS

RIVALS = ("frequency", "uniform")
TOKENS = {TEXT_TOKENS: "Text tokens", KEY_TOKENS: "Key vision tokens"}


def layer_control(axes: Axes, bank: str) -> None:
    """Another layer."""
    st.session_state["learn:bank"] = bank
    st.selectbox(
        "Try another layer",
        axes.names,
        format_func=dict(zip(axes.names, names.banks(axes), strict=True)).get,
        key="learn:bank",
        on_change=lambda: current_run.select(bank=st.session_state["learn:bank"], expert=0),
    )


def ratio_control(follow: Callable[[], str]) -> None:
    """The key ratio, live."""
    live_slider(
        "Try another key ratio ρ",
        low=1,
        high=100,
        step=1,
        value=100 * address.choices().request.key_ratio,
        unit=" %",
        key="learn-ratio",
        help=explain("key ratio"),
        on_change=lambda percent: address.choose(key_ratio=round(percent) / 100),
        follow=follow,
    )


def kind_control() -> None:
    """Text or key vision tokens."""
    st.segmented_control(
        "Try the other kind of token",
        list(TOKENS),
        format_func=TOKENS.get,
        required=True,
        **address.bind_place("kind", list(TOKENS), TEXT_TOKENS),
    )


def budget_control(follow: Callable[[], str]) -> None:
    """The budget, live."""
    widths = solving.widths()
    live_slider(
        "Try another budget",
        low=float(min(widths)),
        high=float(max(widths)),
        step=0.05,
        value=solving.bits_asked(),
        decimals=2,
        unit=" bits on average",
        key="learn-budget",
        help=explain("average bits"),
        on_change=lambda bits: address.choose(average_bits=round(bits, 2), megabytes=None, budget_unit="bits"),
        follow=follow,
        disabled=len(widths) == 1,
    )


def rival_control() -> None:
    """Counting, or uniform bits."""
    st.segmented_control("Against", RIVALS, format_func=names.method, default=RIVALS[0], required=True,
                         key="learn:rival", persist_state="session")  # fmt: skip
