"""Sent before anything else of a first page: the browser fetches Plotly while the server is still importing."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import streamlit as st

_FETCH = """<script>
const link = document.createElement("link");
Object.assign(link, {{ rel: "modulepreload", href: "./static/js/{name}" }});
document.head.append(link);
</script>
<style>.st-key-preload, :has(> .st-key-preload) {{ display: none; }}</style>"""


def plotly() -> None:
    """Ask for the file in which Streamlit keeps Plotly; where it is not found, it is fetched with the first chart."""
    if (name := _name()) is not None:
        with st.container(key="preload"):
            st.html(_FETCH.format(name=name), unsafe_allow_javascript=True)


@cache
def _name() -> str | None:
    folder = Path(st.__file__).parent / "static" / "static" / "js"
    return next((path.name for path in folder.glob("PlotlyChart.*.js")), None)
