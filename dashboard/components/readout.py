"""A sentence and a row of figures that a dragged slider changes in place."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

import streamlit as st

from dashboard.components.live_slider import plain_controls
from dashboard.words.plain import plain

_HERE = Path(__file__).parent
_live = st.components.v2.component(
    "mode_readout",
    html='<div class="readout" data-part="readout"></div>',
    css=(_HERE / "readout.css").read_text(encoding="utf-8"),
    js=(_HERE / "readout.js").read_text(encoding="utf-8"),
    isolate_styles=False,
)
_times = count()  # makes every sending another one, so that what a drag had changed is always drawn anew


@dataclass(frozen=True)
class Figure:
    """One number of the row: its label, the value in words, and what stands beneath."""

    label: str
    value: str
    beside: str


@dataclass(frozen=True)
class Readout:
    """A strong statement, how it is meant, figures, and small print below them; any part may be empty."""

    strong: str = ""
    plain: str = ""
    figures: tuple[Figure, ...] = ()
    small: str = ""

    def to_json(self) -> str:
        """As the browser draws it."""
        return json.dumps(asdict(self))


def readout(what: Readout, key: str, width: int = 138) -> None:
    """Draw it; a slider's `follow` may change it under this key. Figures share the row, or as many rows as it takes for
    each to have `width` pixels, so that nothing moves."""
    if not plain_controls():
        data = f'{{"key":{json.dumps(key)},"time":{next(_times)},"width":{width},"readout":{what.to_json()}}}'
        _live(key=key, data=data.encode())
        return
    if what.strong or what.plain:
        st.markdown(
            " ".join(part for part in (f"**{plain(what.strong)}**" * bool(what.strong), plain(what.plain)) if part)
        )
    if what.figures:
        with st.container(horizontal=True, gap="small"):
            for figure in what.figures:
                st.metric(figure.label, figure.value, figure.beside, delta_color="off", delta_arrow="off", width=width)
    if what.small:
        st.caption(plain(what.small))
