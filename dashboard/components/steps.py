"""A row of numbered steps to walk through: by click, or with the arrow and page keys from anywhere on the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import streamlit as st

from dashboard.components.live_slider import plain_controls

_HERE = Path(__file__).parent
_row = st.components.v2.component(
    "mode_steps",
    html='<nav class="steps" data-part="steps" aria-label="Steps"></nav>',
    css=(_HERE / "steps.css").read_text(encoding="utf-8"),
    js=(_HERE / "steps.js").read_text(encoding="utf-8"),
)


def steps(
    labels: Sequence[str],
    current: int,
    on_step: Callable[[int], None],
    key: str,
    plain: bool | None = None,
    screen: bool = False,
) -> None:
    """Draw the row with `labels[current]` marked; `on_step(place)` runs before the rerun that a move causes. With
    `screen` its last button has the browser fill the screen.

    Keys that a focused slider, chart or text field needs stay with it, except PageUp and PageDown. With `plain` (None:
    as the environment says) it is Streamlit's own control, without the keys.
    """
    if plain_controls() if plain is None else plain:
        held = f"{key}-plain"
        st.session_state[held] = current
        st.segmented_control(
            "Step",
            range(len(labels)),
            format_func=lambda place: f"{place + 1} {labels[place]}",
            key=held,
            required=True,
            on_change=lambda: on_step(int(st.session_state[held])),
            label_visibility="collapsed",
        )
        return

    def moved() -> None:
        place = st.session_state[key].get("step")
        if place is not None:
            on_step(min(max(int(place), 0), len(labels) - 1))

    _row(key=key, data={"labels": list(labels), "current": current, "screen": screen}, on_step_change=moved)
