"""A button that has the browser draw figures as vectors, and the server put them into one zip with texts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import plotly.graph_objects as go
import streamlit as st

from dashboard.charts import theme
from dashboard.components.spec import Spec

_HERE = Path(__file__).parent
_kit = st.components.v2.component(
    "mode_kit",
    html='<button type="button" class="kit" data-part="make"></button>'
    ' <span data-part="says" aria-live="polite"></span>',
    css=(_HERE / "kit.css").read_text(encoding="utf-8"),
    js="".join((_HERE / name).read_text(encoding="utf-8") for name in ("paper.js", "kit.js")),
    isolate_styles=False,
)


def kit_button(label: str, figures: Mapping[str, go.Figure], texts: Mapping[str, str], name: str, key: str) -> None:
    """Draw it; pressed, it downloads a zip called `name` of every figure by its name, as SVG and PDF, and the texts."""
    head = {"label": label, "name": name, "files": dict(texts), "light": theme.template(False).to_plotly_json()}
    drawn = ",".join(f"{json.dumps(name)}:{Spec.of(figure).whole()}" for name, figure in figures.items())
    _kit(key=key, data=f'{json.dumps(head)[:-1]},"figures":{{{drawn}}}}}'.encode())
