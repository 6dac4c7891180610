"""A slider whose value arrives while it is dragged; Streamlit's own reports only when it is let go.

The browser sends a value at most every 90 ms and only after the last one was answered, so a slow answer
slows the reports instead of piling them up, and the value it is let go at always arrives. For that to hold,
draw the slider *after* what depends on it (in a container placed above), since drawing it is the answer.
While it is held, `held()` is true, and charts that may lag are not made; letting go reports once more.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import streamlit as st

HELD = "live-slider-held"  # in the session: key of the slider that is held down
_HERE = Path(__file__).parent
_HTML = """
<div class="slider">
  <div class="head">
    <span><span data-part="label"></span><span class="why" data-part="why" tabindex="0" role="note">?<span
      class="said" data-part="said"></span></span></span>
    <output data-part="output" aria-hidden="true"></output>
  </div>
  <input data-part="input" type="range">
  <div class="ends" aria-hidden="true"><span data-part="low"></span><span data-part="high"></span></div>
</div>
"""
_live = st.components.v2.component(
    "mode_live_slider",
    html=_HTML,
    css=(_HERE / "live_slider.css").read_text(encoding="utf-8"),
    js=(_HERE / "live_slider.js").read_text(encoding="utf-8"),
)


def held() -> bool:
    """Is a slider held down at this moment? What need not follow every step may wait until it is let go."""
    return st.session_state.get(HELD) is not None


def let_go() -> None:
    """At the start of a run of the whole app: no slider reports that way, so none is held."""
    st.session_state[HELD] = None


def plain_controls() -> bool:
    """True where MODE_CONTROLS=plain in the environment asks for Streamlit's own controls instead of the live ones."""
    return os.environ.get("MODE_CONTROLS") == "plain"


def live_slider(
    label: str,
    *,
    low: float,
    high: float,
    step: float,
    value: float,
    on_change: Callable[[float], None],
    key: str,
    decimals: int = 0,
    unit: str = "",
    help: str | None = None,
    disabled: bool = False,
    plain: bool | None = None,
) -> None:
    """Draw the slider at `value`; while it is moved, `on_change(new value)` runs before each rerun.

    Args:
        label: what is set, also the name that screen readers say.
        low, high, step: range, `low < high`; the ends are always reachable.
        decimals, unit: how values are written, e.g. 2 and " bits".
        help: what it means, shown beside the label on hover and focus.
        plain: use `st.slider` (reports on release); None: as the environment says, see `plain_controls`.

    Raises:
        ValueError: an empty range or a step that is not positive.
    """
    if not low < high or step <= 0:
        raise ValueError(f"{label}: expected low < high and step > 0; got {low}, {high}, {step}.")
    value = min(max(value, low), high)
    if plain_controls() if plain is None else plain:
        _plain_slider(label, low, high, step, value, on_change, key, decimals, unit, help, disabled)
        return

    def moved() -> None:
        drag = st.session_state[key]["drag"]
        st.session_state[HELD] = key if drag.get("held") else None
        on_change(min(max(float(drag["value"]), low), high))

    drag = (st.session_state.get(key) or {}).get("drag") or {}
    data = {
        "label": label,
        "low": low,
        "high": high,
        "step": step,
        "value": value,
        "decimals": decimals,
        "unit": unit,
        "help": help or "",
        "disabled": disabled,
        "sequence": int(drag.get("sequence", 0)),
    }
    _live(key=key, data=data, on_drag_change=moved)


def _plain_slider(
    label: str,
    low: float,
    high: float,
    step: float,
    value: float,
    on_change: Callable[[float], None],
    key: str,
    decimals: int,
    unit: str,
    help: str | None,
    disabled: bool,
) -> None:
    """The same on `st.slider`."""
    key = f"{key}-plain"
    st.session_state[key] = float(value)
    st.slider(
        label,
        min_value=float(low),
        max_value=float(high),
        step=float(step),
        format=f"%.{decimals}f{unit.replace('%', '%%')}",
        key=key,
        help=help,
        disabled=disabled,
        on_change=lambda: on_change(float(st.session_state[key])),
    )
