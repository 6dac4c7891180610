"""Maps under each other on one expert axis: their places, the crosshair over all of them, and grey where nothing is.

Places are shares of the figure's height, so that the browser may stretch it to the window and nothing has to be laid
out again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dashboard.charts import theme
from dashboard.charts.grids import Axes

TOP, BOTTOM = 34, 42  # pixels above and below a map
LEGEND = 18  # more of them below maps that explain their grey
GAP = 0.043  # of the height, between two maps: room for a title
GREY = "rgba(138,143,152,0.45)"
WHY_GREY = "grey: no such token was routed there"
LEAST_ROW, MOST_ROW = 2, 40  # pixels of a bank on one map, in a low and in a high window
LEAST = 420  # pixels of the figure
RESERVE = 56  # pixels of the window that the maps leave free where one has to scroll to see them all
FOLD = 4  # below them, where they are all in the first view


@dataclass(frozen=True)
class Panel:
    """One map: title, heatmap (a plain record, which costs a drag least) and what lies over it, where it has no value
    (bool `[L, E]`) and why not; `tall`: its share of the height."""

    title: str
    heatmap: dict[str, Any]
    missing: np.ndarray
    why: str
    over: tuple[dict[str, Any], ...] = ()
    tall: float = 1.0


def stacked(
    axes: Axes, panels: Sequence[Panel], across: str, at: tuple[int, int] | None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Traces and layout of the maps: y layers, x experts (`across` names that axis), linked in zoom.

    `at`: (row, column) under the crosshair. Every map's own traces come first, in their order; `meta` tells the browser
    where the crosshair may go, and how tall the figure may grow in it.
    """
    bands, height = bands_of(panels), sum(panel.tall for panel in panels) * len(axes.names)
    grey = any(panel.missing.any() for panel in panels)
    above, below = TOP - 10, BOTTOM - 4 + LEGEND * grey
    around = above + below + 0.13 * LEAST_ROW * height
    layout: dict = {
        "height": int(np.clip(4 * height, 96 * len(panels), 640)) + above + below,
        "margin": {"l": 44, "r": 74, "t": above, "b": below, "autoexpand": False},  # the bars have their place
        "xaxis": axes.x_axis(anchor=f"y{suffix(len(panels) - 1)}", title={"text": ""}),
        "annotations": [panel_title(panel.title, top) for panel, (_, top) in zip(panels, bands, strict=True)],
        "meta": {"tall": [max(LEAST, int(each * height + around)) for each in (LEAST_ROW, MOST_ROW)]}
        | {"reserve": RESERVE, "fold": FOLD},
    }
    layout["annotations"].append(_under(across))
    traces: list[dict[str, Any]] = []
    for place, (panel, band) in enumerate(zip(panels, bands, strict=True)):
        linked = {"matches": "y"} if place else {}
        layout[f"yaxis{suffix(place)}"] = axes.y_axis(domain=list(band), title={"text": "layer"}, **linked)
        traces.append(panel.heatmap | {"yaxis": f"y{suffix(place)}"})
    for place, panel in enumerate(panels):
        traces += [over | {"yaxis": f"y{suffix(place)}"} for over in panel.over]
        traces += blank(axes, panel.missing, place, panel.why)
    if grey:
        traces.append(_grey_in_legend())
        low = {"y": 0, "yref": "container", "yanchor": "bottom"}
        layout |= {"showlegend": True, "legend": {"x": 1, "xanchor": "right", "itemclick": False, **low}}
    if at is not None:
        layout["shapes"] = crosshair(at, len(panels))
        layout["meta"] |= {"at": list(at), "experts": list(axes.experts)}
    return traces, layout


def bands_of(panels: Sequence[Panel]) -> list[tuple[float, float]]:
    """(bottom, top) of every map in shares of the height, from the top down."""
    room, whole = 1 - GAP * (len(panels) - 1), sum(panel.tall for panel in panels)
    bands, top = [], 1.0
    for panel in panels:
        bottom = max(0.0, top - room * panel.tall / whole)
        bands.append((bottom, top))
        top = bottom - GAP
    return bands


def suffix(place: int) -> str:
    """Plotly's name of the axis of the panel at `place`: '', '2', '3', …"""
    return "" if place == 0 else str(place + 1)


def panel_title(text: str, top: float) -> dict:
    """Annotation with a panel's title, just above its top left corner."""
    place = {"x": 0, "y": top, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom"}
    return {"text": f"<b>{text}</b>", "showarrow": False, **place}


def _under(text: str) -> dict:
    """What the expert axis is called, below its numbers; Plotly would set it over them where a legend lies beneath."""
    place = {"x": 0.5, "y": 0, "xref": "paper", "yref": "paper", "yanchor": "top", "yshift": -18}
    return {"text": text, "showarrow": False, **place}


def bar(title: str, bands: Sequence[tuple[float, float]], ticks: Sequence[float], texts: Sequence[str]) -> dict:
    """The colour bar of the maps in these places."""
    bottom, top = bands[-1][0], bands[0][1]
    place = {"x": 1.0, "xanchor": "left", "xpad": 8, "y": top, "yanchor": "top", "len": top - bottom, "ypad": 0}
    return {"title": {"text": title, "side": "top"}, "tickvals": list(ticks), "ticktext": list(texts), **place}


def crosshair(at: tuple[int, int], panels: int) -> list[dict]:
    """Row and column of the chosen expert over all maps: white dots on black, seen on every colour, and thin, so that
    the row and the column themselves are. The browser moves them by their names.
    """
    row, column = at
    shapes = []
    for place in range(panels):
        y = f"y{suffix(place)}"
        boxes = {
            "row": {"xref": "x domain", "x0": 0, "x1": 1, "yref": y, "y0": row - 0.5, "y1": row + 0.5},
            "column": {"yref": f"{y} domain", "y0": 0, "y1": 1, "xref": "x", "x0": column - 0.5, "x1": column + 0.5},
        }
        for line in ({"color": "#000000", "width": 1}, {"color": "#ffffff", "width": 1, "dash": "2px,2px"}):
            shapes += [{"type": "rect", "name": name, "line": line} | box for name, box in boxes.items()]
    return shapes


def blank(axes: Axes, where: np.ndarray, place: int, message: str) -> list[dict[str, Any]]:
    """A grey layer over the cells of `where` (bool `[L, E]`) that says why there is no value; none if all have."""
    if not where.any():
        return []
    return [
        {
            "type": "heatmap",
            "z": np.where(where, np.float32(0), np.float32(np.nan)),
            "y": axes.labels,
            "yaxis": f"y{suffix(place)}",
            "colorscale": [[0, GREY], [1, GREY]],
            "showscale": False,
            "hoverongaps": False,
            "hovertemplate": f"%{{y}}<br>{message}<extra></extra>",
        }
    ]


def _grey_in_legend() -> dict[str, Any]:
    marker = {"symbol": "square", "size": 11, "color": theme.QUIET}
    shown = {"name": WHY_GREY, "showlegend": True, "marker": marker, "mode": "markers"}
    return {"type": "scatter", "x": [None], "y": [None], **shown}


def within(axes: Axes) -> np.ndarray:
    """True where a bank has that expert at all: bool `[L, E]`."""
    return np.arange(axes.shape[1])[None] < np.asarray(axes.experts)[:, None]
