"""Who uses which expert: aligned heatmaps of text, all vision and key vision tokens, on one scale."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from dashboard.charts import theme
from dashboard.charts.grids import reorder, specialisation_order
from dashboard.charts.measures import FrequencyGrid
from dashboard.charts.panels import blank, frames, stacked_layout, suffix, within
from mode_core.importance.bias import busiest_ranks

VIEWS = {"share": "Share", "load": "Load × uniform", "rank": "Rank", "difference": "Difference"}
ORDERS = {"index": "Expert number", "specialisation": "Text to key vision"}
PANELS = ("text", "vision", "key")
TITLES = {"text": "Text tokens", "vision": "All vision tokens", "key": "Key vision tokens", "all": "aggregate"}
_DIFFERENCES = (("text", "all"), ("key", "vision"), ("text", "key"))


def frequency_heatmaps(
    grid: FrequencyGrid, view: str = "share", order: str = "index", selected: tuple[int, int] | None = None
) -> go.Figure:
    """Three heatmaps under each other (x expert, y layer), linked in zoom, on one colour scale.

    Args:
        view: one of `VIEWS`. `difference` shows text − aggregate, key − all vision, text − key, in points.
        order: one of `ORDERS`; `specialisation` orders each row from text-like to key-vision-like experts.
        selected: (bank row, expert) to frame in every panel.

    Raises:
        ValueError: an unknown view or order.
    """
    if view not in VIEWS or order not in ORDERS:
        raise ValueError(f"Expected a view of {list(VIEWS)} and an order of {list(ORDERS)}; got {view!r}, {order!r}.")
    columns = None if order == "index" else specialisation_order(grid.shares["text"], grid.shares["key"])
    panels = _panels(grid, view)
    traces: list[go.Heatmap] = []
    for place, (_, values, kind) in enumerate(panels):
        traces.append(_heatmap(grid, values, kind, view, columns, place))
        missing = np.isnan(grid.shares[kind]).all(axis=1, keepdims=True) & within(grid.axes)
        traces += blank(grid.axes, missing, place, f"no {theme.KIND_NAMES[kind]} routed")
    titles = [title for title, _, _ in panels]
    across = "expert" if columns is None else "experts of each layer, from text-like to key-vision-like"
    layout = stacked_layout(grid.axes, titles, across)
    layout["shapes"] = frames(grid.axes, selected, columns, len(panels))
    alt = f"Three heatmaps under each other, {', '.join(titles)}: experts across, layers down."
    return theme.figure(traces, alt, _summary(grid), coloraxis=_scale(grid, view), **layout)


def _panels(grid: FrequencyGrid, view: str) -> list[tuple[str, np.ndarray, str]]:
    """(title, values `[L, E]`, kind whose tokens the hover counts) of each panel."""
    if view == "difference":
        return [
            (f"{TITLES[a]} − {TITLES[b].lower()}", 100 * (grid.shares[a] - grid.shares[b]), a) for a, b in _DIFFERENCES
        ]
    shares = grid.shares
    make = {
        "share": lambda kind: 100 * shares[kind],
        "load": grid.load,
        "rank": lambda kind: busiest_ranks(shares[kind]),
    }
    return [(TITLES[kind], make[view](kind), kind) for kind in PANELS]


def _heatmap(
    grid: FrequencyGrid, values: np.ndarray, kind: str, view: str, columns: np.ndarray | None, place: int
) -> go.Heatmap:
    """One panel. Hover facts are 2-D arrays, one channel each: the browser unpacks those several times faster."""
    experts = np.broadcast_to(np.arange(values.shape[1], dtype=np.float32), values.shape)
    second = grid.load(kind) if view == "share" else np.float32(100) * grid.shares[kind]
    name = theme.KIND_NAMES[kind]
    facts = {
        "share": f"%{{z:.2f}} % of {name}, %{{text:.2f}}× uniform",
        "load": f"%{{z:.2f}}× uniform, %{{text:.2f}} % of {name}",
        "rank": f"rank %{{z:.0f}} for {name}, %{{text:.2f}} %",
        "difference": f"%{{z:+.2f}} points, now %{{text:.2f}} % of {name}",
    }[view]
    hover = f"<b>expert %{{customdata:.0f}}</b> · %{{y}}<br>{facts}<br>%{{hovertext:,.0f}} tokens<extra></extra>"
    z, second, counts, experts = (reorder(array, columns) for array in (values, second, grid.counts[kind], experts))
    return go.Heatmap(
        z=z,
        text=second,
        hovertext=counts,
        customdata=np.ascontiguousarray(experts),
        hovertemplate=hover,
        y=grid.axes.labels,
        coloraxis="coloraxis",
        hoverongaps=False,
        xaxis=f"x{suffix(place)}",
        yaxis=f"y{suffix(place)}",
    )


def _scale(grid: FrequencyGrid, view: str) -> dict:
    """One colour axis for all panels. Its range does not depend on the key ratio, so dragging never rescales."""
    unit = {"share": "%", "load": "× uniform", "rank": "rank", "difference": "points"}[view]
    bar = {"title": {"text": unit, "side": "top"}, "x": 1.0, "xanchor": "left", "xpad": 8, "len": 1.0}
    if view == "rank":
        top = max(grid.axes.experts)
        return {"colorscale": theme.SHARE_SCALE, "reversescale": True, "cmin": 1, "cmax": top, "colorbar": bar}
    text, vision, every = (grid.shares[kind] for kind in ("text", "vision", "all"))
    if view == "difference":
        end = _top(100 * np.abs(np.stack([text - every, text - vision])))
        return {"colorscale": theme.DIFFERENCE_SCALE, "cmin": -end, "cmax": end, "cmid": 0, "colorbar": bar}
    steady = (grid.load("text"), grid.load("vision")) if view == "load" else (100 * text, 100 * vision)
    return {"colorscale": theme.SHARE_SCALE, "cmin": 0, "cmax": _top(np.stack(steady)), "colorbar": bar}


def _top(values: np.ndarray) -> float:
    """Upper end of a scale: the 99.5th percentile, so that one busy expert does not darken all others."""
    finite = values[np.isfinite(values)]
    return max(float(np.percentile(finite, 99.5)), 1e-6) if finite.size else 1.0


def _summary(grid: FrequencyGrid) -> str:
    """The busiest expert for text, and what key vision tokens make of it."""
    text, key = grid.load("text"), grid.load("key")
    if not np.isfinite(text).any():
        return "No text token was routed in these samples."
    row, expert = np.unravel_index(np.nanargmax(text), text.shape)
    seen = key[row, expert]
    with_key = "no key vision tokens came to its layer" if np.isnan(seen) else f"{seen:.1f}× with key vision tokens"
    return (
        f"The busiest expert for text is expert {expert} of layer {grid.axes.ticks[row]}: "
        f"{text[row, expert]:.1f}× an even share with text tokens; {with_key}."
    )
