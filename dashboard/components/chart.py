"""Show a figure: in place while values are dragged, with alt text, a sentence of what it says, and its table."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import plotly.io
import streamlit as st

from dashboard.charts import theme
from dashboard.components.live_slider import held, plain_controls

CONFIG = {
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"],
    "toImageButtonOptions": {"format": "svg"},
    "displaylogo": False,
}
_STYLE = ".figure { width: 100%; } .figure:focus-visible { outline: 2px solid var(--st-primary-color); }"
_live = st.components.v2.component(
    "mode_live_figure",
    html='<div class="figure" data-part="figure"></div>',
    css=_STYLE,
    js=(Path(__file__).parent / "figure.js").read_text(encoding="utf-8"),
    isolate_styles=False,
)


def chart(
    figure: go.Figure | Callable[[], go.Figure],
    key: str,
    *,
    table: Callable[[], pd.DataFrame] | None = None,
    caption: bool = True,
    live: bool = True,
    settle: bool = False,
    on_pick: Callable[[dict], None] | None = None,
) -> None:
    """Draw a figure of `dashboard.charts`.

    Args:
        figure: carries `layout.meta["alt"]` (what is drawn) and `["summary"]` (what it says, shown below); or what
            makes it, which is not called while a slider is held and the chart may lag.
        key: stable name; the same key keeps zoom and redraws in place.
        table: makes the rows behind the chart, called only when the reader opens them.
        caption: show the summary under the chart.
        live: redraw in place; False, or MODE_CONTROLS=plain, uses `st.plotly_chart`.
        settle: this chart may lag: while a slider is held it stays as it is, so that others keep pace.
        on_pick: called with `{"place": [row, column], "facts": [...]}` on a click, `{"step": "left"}` on an
            arrow key. Live charts only.
    """
    live = live and not plain_controls()
    if live and settle and held() and (last := st.session_state.get(f"{key}:drawn")) is not None:
        spec, summary = last
        _send(spec, key, on_pick)
        _below(key, summary if caption else None, table)
        return
    figure = figure() if callable(figure) else figure
    meta = figure.layout.meta or {}
    dark = st.context.theme.type == "dark"
    if live:
        spec = _spec(figure, meta.get("alt", ""), dark, settle, on_pick is not None)
        if settle:
            st.session_state[f"{key}:drawn"] = spec, meta.get("summary")
        _send(spec, key, on_pick)
    else:
        st.plotly_chart(theme.themed(figure, dark), key=key, theme=None, config=CONFIG, alt=meta.get("alt") or None)
    _below(key, meta.get("summary") if caption else None, table)


def _below(key: str, summary: str | None, table: Callable[[], pd.DataFrame] | None) -> None:
    """The sentence and the table under a chart."""
    if summary:
        st.caption(summary)
    if table is not None:
        _table(key, table)


def _spec(figure: go.Figure, alt: str, dark: bool, settle: bool, picks: bool) -> bytes:
    """What the browser draws, as bytes."""
    head = {"alt": alt, "config": CONFIG, "picks": picks, "settle": settle, "template": _template(dark)}
    return (json.dumps(head)[:-1] + "," + plotly.io.to_json(figure, validate=False)[1:]).encode()


def _send(spec: bytes, key: str, on_pick: Callable[[dict], None] | None) -> None:
    """Send it to the component that redraws it in place."""

    def picked() -> None:
        what = st.session_state[key].get("pick")
        if what and on_pick is not None:
            on_pick(what)

    _live(key=key, data=spec, on_pick_change=picked)


@cache
def _template(dark: bool) -> dict:
    return theme.template(dark).to_plotly_json()


def load_plotly() -> None:
    """Have the browser fetch Plotly: mounts one empty, hidden chart of Streamlit's own. Once a page, last."""
    if plain_controls():
        return
    with st.container(key="plotly-loader", height=1, border=False):
        st.plotly_chart(go.Figure(layout={"height": 10}), key="plotly-loader-chart", theme=None, config=CONFIG)
    st.html("<style>.st-key-plotly-loader { display: none; }</style>")


def _table(key: str, table: Callable[[], pd.DataFrame]) -> None:
    """Rows behind a chart, made when opened; with a CSV download of all of them."""
    opened = st.expander("Table", key=f"{key}-table", on_change="rerun", type="compact")
    if not opened.open:
        return
    with opened:
        rows = table()
        st.dataframe(rows, hide_index=True, height=260, key=f"{key}-rows")
        st.download_button(
            "Download CSV",
            rows.to_csv(index=False).encode(),
            f"{key}.csv",
            "text/csv",
            key=f"{key}-csv",
            on_click="ignore",
            icon=":material/download:",
            type="tertiary",
        )
