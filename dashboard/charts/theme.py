"""One look for every chart: font, colours, margins and scales, in a light and a dark form.

Scales are safe for the usual colour deficiencies and monotone in lightness: cividis for shares (Nuñez,
Anderton & Renslow 2018), viridis for errors and for the ordered bit-widths, blue-white-red with equal
lightness on both arms for differences. Every figure carries `layout.meta`: `alt`, a description of what is
drawn that does not change with the values, and `summary`, one sentence computed from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from dashboard.words.sizes import number
from mode_core.modalities import (
    ALL,
    AUDIO_TOKENS,
    KEY_AUDIO,
    KEY_TOKENS,
    KINDS,
    REDUNDANT_AUDIO,
    REDUNDANT_TOKENS,
    TEXT_TOKENS,
    VISION_TOKENS,
)

FONT = "Source Sans, Source Sans Pro, Inter, system-ui, sans-serif"
SHARE_SCALE = "Cividis"
ERROR_SCALE = "Viridis"
DIFFERENCE_SCALE = [[0.0, "#2166ac"], [0.25, "#74a9cf"], [0.5, "#f2f2f2"], [0.75, "#ef8a62"], [1.0, "#b2182b"]]

# A width keeps its colour on every page; lightness grows with the bits.
_WIDTH_PLACE = {1: 0.0, 2: 0.25, 3: 0.5, 4: 0.75, 5: 0.82, 6: 0.88, 7: 0.94, 8: 1.0, 16: 1.0}

# Okabe & Ito (2008), one colour for each kind of token, on both backgrounds.
KIND_COLOURS = {
    TEXT_TOKENS: "#0072b2",
    VISION_TOKENS: "#d55e00",
    KEY_TOKENS: "#009e73",
    REDUNDANT_TOKENS: "#a0a0a0",
    ALL: "#cc79a7",
    AUDIO_TOKENS: "#56b4e9",
    KEY_AUDIO: "#e69f00",
    REDUNDANT_AUDIO: "#c8c8c8",
}
KIND_NAMES = {name: kind.title for name, kind in KINDS.items()}
CHECKED = False  # should Plotly check every name and value? The tests do; it triples the time of a dragged figure
ACCENT = "#d55e00"
QUIET = "#8a8f98"


@cache
def width_colour(bits: int) -> str:
    """Colour of one bit-width (1 to 8, 16), the same everywhere; more bits are lighter. 0 bits, an expert that is
    left out, is grey.

    Raises:
        ValueError: a width that has no colour.
    """
    if bits == 0:
        return "rgb(176, 176, 176)"
    if bits not in _WIDTH_PLACE:
        raise ValueError(f"There is no colour for {bits} bits; widths run from 0 to 8, and 16.")
    return sample_colorscale("Viridis", [_WIDTH_PLACE[bits]], colortype="rgb")[0]


@cache
def template(dark: bool = False) -> go.layout.Template:
    """Plotly template with a transparent ground, for the light or the dark page."""
    text, grid = ("#e6e8eb", "rgba(230,232,235,0.14)") if dark else ("#2b2f36", "rgba(43,47,54,0.12)")
    hover = {"bgcolor": "#22262e" if dark else "#ffffff", "bordercolor": QUIET, "align": "left"}
    heading = {"x": 0, "xanchor": "left", "xref": "container", "pad": {"l": 4, "t": 10}}
    heading |= {"y": 1, "yanchor": "top", "yref": "container"}  # at one height, whatever margin the figure has
    axis = {
        "gridcolor": grid,
        "linecolor": grid,
        "zerolinecolor": grid,
        "tickcolor": grid,
        "automargin": False,
        "title": {"standoff": 6, "font": {"size": 12}},
        "tickfont": {"size": 11},
        "exponentformat": "power",  # not 600µ
    }
    bar = {"outlinewidth": 0, "thickness": 10, "tickfont": {"size": 11}, "title": {"font": {"size": 12}}}
    layout = {
        "font": {"family": FONT, "size": 13, "color": text},
        "title": {"font": {"size": 14, "weight": 600}, **heading},
        "margin": {"l": 52, "r": 16, "t": 40, "b": 42},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "colorway": list(KIND_COLOURS.values()),
        "hoverlabel": hover | {"font": {"family": FONT, "size": 12, "color": text}},
        "legend": {"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "font": {"size": 12}},
        "xaxis": axis,
        "yaxis": axis,
        "coloraxis": {"colorbar": bar},
        "annotationdefaults": {"font": {"size": 12, "color": text}},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": QUIET, "activecolor": text},
    }
    return go.layout.Template(layout=layout, data={"heatmap": [{"colorbar": bar}]})


# Of the toolbar that plotly.js draws: nothing that sends the chart to somebody else, no advertisement.
TOOLBAR = {"displaylogo": False, "showSendToCloud": False, "plotlyServerURL": ""}


def figure(traces: Sequence[object], alt: str, summary: str = "", **layout: object) -> go.Figure:
    """A figure without colours of its own (see `themed`), with its description in `layout.meta`.

    `meta` may say more: `tall`, (least, most) pixels that the browser may make it: what the window has left below what
    stands above it, less `fold`; where that is not enough, or without `fold`, the window less `reserve`;
    `letters`, their pixels where they grow with those of the page (`lecture`).
    """
    meta = {"alt": alt, "summary": summary} | layout.pop("meta", {})
    return go.Figure(list(traces), {"template": {}, "uirevision": "keep", **layout, "meta": meta}, _validate=CHECKED)


def themed(drawn: go.Figure, dark: bool = False) -> go.Figure:
    """The same figure for the light or the dark page: only its template is set."""
    drawn.layout.template = template(dark)
    return drawn


def empty(message: str, title: str = "", height: int = 160) -> go.Figure:
    """A chart without data that says why, and what to do next."""
    note = {"text": message, "showarrow": False, "xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5}
    hidden = {"visible": False}
    heading = {"text": title}
    return figure([], message, message, title=heading, height=height, annotations=[note], xaxis=hidden, yaxis=hidden)


def width_scale(widths: Sequence[int]) -> tuple[list[list[object]], dict[int, int]]:
    """Stepped colour scale for ordered widths, and width → its step (0, 1, …): `[[0, c], [1/n, c], …]`."""
    ordered = sorted(set(widths))
    count = len(ordered)
    scale: list[list[object]] = []
    for step, bits in enumerate(ordered):
        colour = width_colour(bits)
        scale += [[step / count, colour], [(step + 1) / count, colour]]
    return scale, {bits: step for step, bits in enumerate(ordered)}


def log_axis(values: np.ndarray, title: str) -> dict:
    """Logarithmic axis for positive values, labelled in full: at 1, 2, 5 within two decades, else at powers of ten."""
    known = values[np.isfinite(values) & (values > 0)]
    plain = {"type": "log", "title": {"text": title}}
    if not known.size:
        return plain
    low, high = np.log10(known.min()), np.log10(known.max())
    if high - low >= 2:
        return plain | {"dtick": 1, "exponentformat": "power"}
    decades = range(int(np.floor(low)) - 1, int(np.ceil(high)) + 1)
    ticks = [step * 10.0**decade for decade in decades for step in (1, 2, 5)]
    return plain | {"tickvals": ticks, "ticktext": [number(tick, 3) for tick in ticks]}
