"""Show a figure: redrawn in place, with alt text, a sentence of what it says, and its table."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from itertools import count
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from dashboard.charts import theme
from dashboard.components.live_slider import plain_controls, settled
from dashboard.components.show_table import show_table
from dashboard.components.spec import Digest, Spec
from dashboard.words import names
from dashboard.words.plain import plain
from mode_core.csv_files import csv_of

CONFIG = theme.TOOLBAR | {
    "modeBarButtonsToRemove": ["toImage", "select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
}
PLAIN_CONFIG = CONFIG | {
    "modeBarButtonsToRemove": CONFIG["modeBarButtonsToRemove"][1:],
    "toImageButtonOptions": {"format": "svg"},
}
_file_names: list[Callable[[str], str]] = [str]  # key → what a download is called, as `name_files_by` was told
_times = count()  # what is sent again as it was would not reach the component, which may show a step of a drag
_HERE = Path(__file__).parent
_HTML = """
<div class="figure" data-part="figure"></div>
<div class="figure-foot">
  <p data-part="says"></p>
  <span class="figure-save"><button type="button" data-part="whole" hidden>Full screen</button><button type="button"
    data-format="png">PNG</button><button type="button" data-format="svg">SVG</button><button type="button"
    data-format="pdf">PDF</button></span>
</div>
<p class="figure-live" data-part="live" aria-live="polite"></p>
"""
_live = st.components.v2.component(
    "mode_live_figure",
    html=_HTML,
    css=(_HERE / "figure.css").read_text(encoding="utf-8"),
    js="".join(
        (_HERE / name).read_text(encoding="utf-8") for name in ("crosshair.js", "paper.js", "step.js", "figure.js")
    ),
    isolate_styles=False,
)


def chart(
    figure: go.Figure,
    key: str,
    *,
    table: Callable[[], pd.DataFrame] | None,
    caption: bool = True,
    follows: bool = False,
    on_pick: Callable[[dict], None] | None = None,
) -> None:
    """Draw a figure of `dashboard.charts`, redrawn in place; with MODE_CONTROLS=plain by `st.plotly_chart`.

    Args:
        figure: carries `layout.meta["alt"]` (what is drawn) and `["summary"]` (what it says, shown below).
        key: stable name; the same key keeps zoom and redraws in place. Begins the names of what is downloaded.
        table: makes the rows behind the chart, called only when the reader opens them; every chart has them, but a
            question whose answer they would tell (None).
        caption: show the summary under the chart.
        follows: the `follow` of a slider changes this chart while it is dragged, see `changes`.
        on_pick: called with `{"place": [row, column], "facts": [...]}` on a click, `{"step": "left"}` on an
            arrow key. A figure whose `meta` has a crosshair (`panels.stacked`) moves that by itself, as fast as keys
            are pressed, and tells the place alone. Not with plain controls.
    """
    meta, dark = figure.layout.meta or {}, st.context.theme.type == "dark"
    if plain_controls():
        drawn, alt = theme.themed(figure, dark), meta.get("alt") or None
        st.plotly_chart(drawn, key=key, theme=None, config=PLAIN_CONFIG, alt=alt)
        if caption and meta.get("summary"):
            st.caption(plain(meta["summary"]))
    else:
        spec, how = Spec.of(figure), {"key": key, "caption": caption}
        if follows:
            st.session_state[_sent(key)] = digest = spec.digest()
            how["mark"] = digest.mark
        _send(spec, how, dark, on_pick)
    if table is not None:
        _table(key, table)


def _sent(key: str) -> str:
    return f"{key}:sent"


def sent(key: str) -> Digest | None:
    """What the browser has of a chart that follows; None where it was not drawn."""
    return st.session_state.get(_sent(key))


def _send(spec: Spec, how: dict, dark: bool, on_pick: Callable[[dict], None] | None) -> None:
    """Send it to the component that redraws it in place."""
    key = how["key"]

    def picked() -> None:
        what = st.session_state[key].get("pick")
        if what and on_pick is not None:
            on_pick(what)

    def let_go() -> None:
        if reported := st.session_state[key].get("settle"):
            settled(reported)

    head = how | {"config": CONFIG, "picks": on_pick is not None, "template": _template(dark)}
    head |= {"name": _file_names[0](key)} | ({"light": _template(False)} if dark else {})
    data = f'{{"time":{next(_times)},{json.dumps(head)[1:-1]},"figure":{spec.whole()}}}'.encode()
    _live(key=key, data=data, on_pick_change=picked, on_settle_change=let_go)


def name_files_by(stem: Callable[[str], str]) -> None:
    """How downloads of charts are called, without their ending, by the chart's key: as what knows the run says."""
    _file_names[0] = stem


@cache
def _template(dark: bool) -> dict:
    return theme.template(dark).to_plotly_json()


def in_words(table: pd.DataFrame) -> pd.DataFrame:
    """The same without the names that code and files use: columns in words, methods by their own."""
    told = {
        column: table[column].map(names.method, na_action="ignore")
        for column in ("method", "against")
        if column in table
    }
    return table.assign(**told).rename(columns=lambda name: str(name).replace("_", " "))


def _table(key: str, table: Callable[[], pd.DataFrame]) -> None:
    """Rows behind a chart, made when opened; with a CSV download of all of them."""
    opened = st.expander("Table", key=f"table-{key}", on_change="rerun", type="compact")
    if not opened.open:
        return
    with opened:
        held = in_words(table())
        show_table(held, height=260, key=f"{key}-rows")
        st.download_button(
            "Download CSV",
            csv_of(held).encode(),
            f"{key}.csv",
            "text/csv",
            key=f"{key}-csv",
            on_click="ignore",
            icon=":material/download:",
            type="tertiary",
        )
