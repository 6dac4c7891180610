"""What quantizing one expert alone breaks, by kind of token and width, on a logarithmic colour scale."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from dashboard.charts import theme
from dashboard.charts.grids import reorder
from dashboard.charts.measures import SensitivityGrid
from dashboard.charts.panels import blank, frames, stacked_layout, suffix, within

TITLES = {"text": "on text tokens", "vision": "on all vision tokens", "key": "on key vision tokens"}


def sensitivity_heatmaps(
    grid: SensitivityGrid,
    bits: int,
    selected: tuple[int, int] | None = None,
    columns: np.ndarray | None = None,
) -> go.Figure:
    """Error of every expert at one width, three panels that align with `frequency_heatmaps` row by row.

    Args:
        bits: a width that was measured.
        selected: (bank row, expert) to frame in every panel.
        columns: expert order per bank, int `[L, E]`, as `specialisation_order` gives it.

    Raises:
        ValueError: a width that was not measured.
    """
    if bits not in grid.bits:
        raise ValueError(f"Sensitivity was measured at {grid.bits} bits, not at {bits}.")
    column = grid.bits.index(bits)
    traces: list[go.Heatmap] = []
    for place, kind in enumerate(TITLES):
        error, support = grid.errors[kind][..., column], grid.support[kind]
        missing = reorder(np.isnan(error) & within(grid.axes), columns)
        traces.append(_heatmap(grid, reorder(error, columns), reorder(support, columns), columns, kind, bits, place))
        traces += blank(grid.axes, missing, place, f"no {theme.KIND_NAMES[kind]} measured here")
    titles = [f"Error at {bits} bits {title}" for title in TITLES.values()]
    layout = stacked_layout(grid.axes, titles, "expert" if columns is None else "experts, ordered as on the left")
    layout["shapes"] = frames(grid.axes, selected, columns, len(TITLES))
    alt = f"Three heatmaps of the squared output error at {bits} bits, logarithmic: experts across, layers down."
    return theme.figure(traces, alt, _summary(grid, column), coloraxis=_scale(grid), **layout)


def _heatmap(
    grid: SensitivityGrid,
    error: np.ndarray,
    support: np.ndarray,
    columns: np.ndarray | None,
    kind: str,
    bits: int,
    place: int,
) -> go.Heatmap:
    """One panel; hover facts are 2-D arrays, one channel each."""
    numbers = np.broadcast_to(np.arange(error.shape[1], dtype=np.float32), error.shape)
    hover = (
        "<b>expert %{customdata:.0f}</b> · %{y}<br>"
        f"squared error at {bits} bits %{{text:.3g}}<br>"
        f"over %{{hovertext:,.0f}} {theme.KIND_NAMES[kind]}<extra></extra>"
    )
    return go.Heatmap(
        z=_log10(error),
        text=error,
        hovertext=support,
        customdata=np.ascontiguousarray(numbers if columns is None else columns.astype(np.float32)),
        hovertemplate=hover,
        y=grid.axes.labels,
        coloraxis="coloraxis",
        hoverongaps=False,
        xaxis=f"x{suffix(place)}",
        yaxis=f"y{suffix(place)}",
    )


def _log10(values: np.ndarray) -> np.ndarray:
    """Base-10 logarithm, float32; NaN where the value is missing or 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log10(values)
    return np.where(np.isfinite(logs), logs, np.nan).astype(np.float32)


def _scale(grid: SensitivityGrid) -> dict:
    """One scale for all kinds and widths, from text and all vision tokens, so that no drag rescales it."""
    logs = _log10(np.stack([grid.errors["text"], grid.errors["vision"]]))
    known = logs[np.isfinite(logs)]
    low, high = np.percentile(known, [0.5, 99.5]) if known.size else (-6.0, 0.0)
    low, high = (float(low), float(high)) if high > low else (float(low) - 1, float(high) + 1)
    ticks = list(range(int(np.ceil(low)), int(np.floor(high)) + 1)) or [round((low + high) / 2, 1)]
    bar = {
        "title": {"text": "error", "side": "top"},
        "tickvals": ticks,
        "ticktext": [f"10<sup>{tick}</sup>" for tick in ticks],
        "x": 1.0,
        "xanchor": "left",
        "xpad": 8,
        "len": 1.0,
    }
    return {"colorscale": theme.ERROR_SCALE, "cmin": low, "cmax": high, "colorbar": bar}


def _summary(grid: SensitivityGrid, column: int) -> str:
    """How far apart the most and the least sensitive experts are for text."""
    error = grid.errors["text"][..., column]
    known = error[np.isfinite(error) & (error > 0)]
    if not known.size:
        return f"No expert's error at {grid.bits[column]} bits was measured on text tokens."
    factor = float(known.max() / known.min())
    return f"At {grid.bits[column]} bits the most sensitive expert errs {factor:,.0f} times as much as the least."
