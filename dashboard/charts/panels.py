"""Panels under each other with shared axes: the layout that frequency and sensitivity heatmaps have in common.

Heights in pixels are fixed by the number of banks, so figures beside each other align row by row and nothing
moves when values change.
"""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from dashboard.charts import theme
from dashboard.charts.grids import Axes

GAP, TOP, BOTTOM = 30, 34, 42
GREY = "rgba(138,143,152,0.35)"


def stacked_layout(axes: Axes, titles: list[str], across: str) -> dict:
    """Layout of one heatmap per title: y layers, x experts (`across` is its title), zoom linked."""
    rows, height = len(titles), axes.row_height()
    inner = rows * height + (rows - 1) * GAP
    layout: dict = {"height": inner + TOP + BOTTOM, "margin": {"l": 44, "r": 74, "t": TOP, "b": BOTTOM}}
    layout["annotations"] = []
    for place, title in enumerate(titles):
        end, last = suffix(place), place == rows - 1
        top = 1 - place * (height + GAP) / inner
        link = {} if place == 0 else {"matches": "y"}
        layout[f"yaxis{end}"] = axes.y_axis(
            domain=[max(0.0, top - height / inner), top], anchor=f"x{end}", title={"text": "layer"}, **link
        )
        link = {} if place == 0 else {"matches": "x"}
        layout[f"xaxis{end}"] = axes.x_axis(
            anchor=f"y{end}", showticklabels=last, title={"text": across if last else ""}, **link
        )
        layout["annotations"].append(panel_title(title, top))
    return layout


def suffix(place: int) -> str:
    """Plotly's name of the axis of the panel at `place`: '', '2', '3', …"""
    return "" if place == 0 else str(place + 1)


def panel_title(text: str, top: float) -> dict:
    """Annotation with a panel's title, just above its top left corner."""
    place = {"x": 0, "y": top, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom"}
    return {"text": f"<b>{text}</b>", "showarrow": False, **place}


def frames(axes: Axes, selected: tuple[int, int] | None, columns: np.ndarray | None, panels: int) -> list[dict]:
    """A frame around the chosen (bank row, expert) in every panel, wherever the column order put it."""
    if selected is None:
        return []
    row, expert = selected
    column = expert if columns is None else int(np.flatnonzero(columns[row] == expert)[0])
    box = {"type": "rect", "x0": column - 0.5, "x1": column + 0.5, "y0": row - 0.5, "y1": row + 0.5}
    line = {"line": {"color": theme.ACCENT, "width": 2}}
    return [box | line | {"xref": f"x{suffix(p)}", "yref": f"y{suffix(p)}"} for p in range(panels)]


def blank(axes: Axes, where: np.ndarray, place: int, message: str) -> list[go.Heatmap]:
    """A grey layer over the cells of `where` (bool `[L, E]`) that says why there is no value; none if all have."""
    if not where.any():
        return []
    z = np.where(where, np.float32(0), np.float32(np.nan))
    return [
        go.Heatmap(
            z=z,
            y=axes.labels,
            xaxis=f"x{suffix(place)}",
            yaxis=f"y{suffix(place)}",
            colorscale=[[0, GREY], [1, GREY]],
            showscale=False,
            hoverongaps=False,
            hovertemplate=f"%{{y}}<br>{message}<extra></extra>",
        )
    ]


def within(axes: Axes) -> np.ndarray:
    """True where a bank has that expert at all: bool `[L, E]`."""
    return np.arange(axes.shape[1])[None] < np.asarray(axes.experts)[:, None]
