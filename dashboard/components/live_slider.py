"""A slider that is answered while it is dragged; Streamlit's own reports only when it is let go.

While it moves, the browser reports its value at most every `INTERVAL` of live_slider.js and only after the last report
was answered and drawn, so a slow answer slows the reports instead of piling them up. The answer is small: the slider
stands in a fragment of its own, and what its `follow` returns (changes of charts and readouts that are drawn
elsewhere) travels with it, so that nothing else is sent or drawn again. When it is let go, or a key has rested, one of
the page's charts reports it (`settle`), and with that everything that depends on the value is drawn again.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import streamlit as st

DRAGGING = "live-slider-dragging"  # in the session: this change is one step of many, the last one is still to come
_SLIDERS = "live-sliders"  # in the session: key of each slider drawn -> what sets its value
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
    js="".join((_HERE / name).read_text(encoding="utf-8") for name in ("follow.js", "live_slider.js")),
)


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
    follow: Callable[[], str] | None = None,
    decimals: int = 0,
    unit: str = "",
    help: str | None = None,
    disabled: bool = False,
    plain: bool | None = None,
) -> None:
    """Draw the slider at `value`; `on_change(new value)` runs at every step of a drag, and when it is let go.

    Args:
        label: what is set, also the name that screen readers say.
        low, high, step: range, `low < high`; the ends are always reachable.
        follow: after each step, what changes at once, as `changes` writes it; None: nothing before it is let go.
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

    def move(to: float) -> None:
        on_change(min(max(to, low), high))

    settles(key, move)
    told = {
        **{"key": key, "label": label, "low": low, "high": high, "step": step, "decimals": decimals, "unit": unit},
        **{"help": help or "", "disabled": disabled, "follows": follow is not None},
    }
    _draw(told, value, follow)


def _draw(told: dict, value: float, follow: Callable[[], str] | None) -> None:
    """The slider in its fragment: drawn with the page first, and by itself at every step of a drag."""
    key, with_page = told["key"], True

    @st.fragment
    def slider() -> None:
        nonlocal with_page
        drag = (st.session_state.get(key) or {}).get("drag") or {}
        changed = ""
        if not with_page:  # a step: the rest of the page stays as it is
            if drag.get("alone"):  # there is no chart on the page that could report it
                st.rerun()
            changed = follow() if follow is not None else ""
        now = value if with_page else float(drag["value"])
        with_page = False
        head = json.dumps(told | {"value": now, "sequence": int(drag.get("sequence", 0))})
        data = f'{head[:-1]},"changes":{changed or "null"}}}'.encode()
        _live(key=key, data=data, on_drag_change=lambda: _moved(key))

    slider()


def _moved(key: str) -> None:
    """One step of a drag: the value is taken over; what need not follow at once waits until it is let go."""
    drag = st.session_state[key]["drag"]
    st.session_state[DRAGGING] = not drag.get("alone")
    try:
        _set(key, drag.get("value"))
    finally:
        st.session_state[DRAGGING] = False


def settles(key: str, move: Callable[[float], None]) -> None:
    """`move(value)` runs when the control is let go, see `settled`."""
    st.session_state.setdefault(_SLIDERS, {})[key] = move


def settled(reported: dict) -> None:
    """A slider was let go, as a chart of its page reports: `{"slider": key, "value": number}`."""
    _set(str(reported.get("slider")), reported.get("value"))


def _set(key: str, value: object) -> None:
    move = st.session_state.get(_SLIDERS, {}).get(key)
    if move is not None and isinstance(value, int | float) and math.isfinite(value):
        move(float(value))


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
