"""Sent before anything else of a first page: the browser fetches and reads Plotly, which draws all charts, and what
else of Streamlit the pages are made of, while the server is still importing."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import streamlit as st

_NEEDED = ("PlotlyChart", "BidiComponent", "Selectbox", "ButtonGroup", "NumberInput", "FileUploader")
_FETCH = """<script>
const [plotly, ...more] = {names}.map((name) => import(`./static/js/${{name}}`));
plotly.then(() => {{ // once, unseen: what it draws with is compiled at first use
  const data = [{{ type: "heatmap", z: [[0, 1]] }}, {{ x: [0, 1], y: [0, 1], mode: "lines+markers" }}];
  Plotly.newPlot(document.createElement("div"), data, {{ width: 300, height: 200, title: {{ text: " " }} }});
}});
</script>
<style>.st-key-preload, :has(> .st-key-preload) {{ display: none; }}</style>"""


def scripts() -> None:
    """Ask for the files in which Streamlit keeps them."""
    with st.container(key="preload"):
        st.html(_FETCH.format(names=json.dumps(_names())), unsafe_allow_javascript=True)


@cache
def _names() -> list[str]:
    folder = Path(st.__file__).parent / "static" / "static" / "js"
    return [path.name for name in _NEEDED for path in folder.glob(f"{name}.*.js")]
