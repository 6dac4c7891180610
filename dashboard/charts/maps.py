"""The maps of the Experts page: text, raw vision, denoised vision and sensitivity, one figure on one expert axis."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from dashboard.charts import theme
from dashboard.charts.frequency import frequency_panels, frequency_scale, frequency_summary
from dashboard.charts.grids import specialisation_order
from dashboard.charts.measures import FrequencyGrid, SensitivityGrid, text_vision_divergence
from dashboard.charts.panels import bands_of, stacked
from dashboard.charts.sensitivity import sensitivity_panel, sensitivity_scale, sensitivity_summary
from mode_core.modalities import KEY_TOKENS, TEXT_TOKENS

ORDERS = {"index": "By number", "specialisation": "From text to denoised vision"}
LAYER_ORDERS = {"depth": "By depth", "divergence": "By text–vision divergence"}


def layer_order(grid: FrequencyGrid, order: str) -> np.ndarray:
    """Rows `[L]` in one of `LAYER_ORDERS`; by divergence of text from raw vision, largest first, unknown ones last."""
    rows = np.arange(len(grid.axes.names))
    return rows if order == "depth" else np.argsort(-text_vision_divergence(grid), kind="stable")


def expert_order(grid: FrequencyGrid, order: str) -> np.ndarray | None:
    """Columns `[L, E]` in one of `ORDERS`; None leaves experts by their number."""
    return None if order == "index" else specialisation_order(grid.shares[TEXT_TOKENS], grid.shares[KEY_TOKENS])


def expert_maps(
    grid: FrequencyGrid,
    sensitivity: SensitivityGrid,
    bits: int,
    *,
    view: str = "load",
    kind: str = TEXT_TOKENS,
    rows: np.ndarray | None = None,
    columns: np.ndarray | None = None,
    selected: tuple[int, int] | None = None,
) -> go.Figure:
    """Experts across, layers down; maps of frequency in one of `VIEWS`, and below them sensitivity at `bits` on `kind`.

    Args:
        rows: layers from top to bottom, as `layer_order` gives them; None: by depth.
        columns: experts of each layer of the grid from left to right, as `expert_order` gives them.
        selected: (row of the grid, expert) under the crosshair.

    Raises:
        ValueError: an unknown view, kind or width.
    """
    rows = np.arange(len(grid.axes.names)) if rows is None else rows
    drawn, columns = grid.taken(rows), None if columns is None else columns[rows]
    panels = frequency_panels(drawn, view, columns)
    above = len(panels)
    panels.append(sensitivity_panel(sensitivity, drawn.axes, bits, kind, rows, columns))
    bands = bands_of(panels)
    across = "expert" if columns is None else "experts of each layer, from text to denoised vision"
    traces, layout = stacked(drawn.axes, panels, across, place_on_map(rows, columns, selected))
    layout["coloraxis"] = frequency_scale(grid, view, panels[:above], bands[:above])
    layout["coloraxis2"] = sensitivity_scale(sensitivity, bands[-1])
    alt = f"{above + 1} maps under each other, experts across, layers down: " + ", ".join(
        trace["name"] for trace in traces[: above + 1]
    )
    return theme.figure(
        traces, f"{alt}.", f"{frequency_summary(grid)} {sensitivity_summary(sensitivity, bits)}", **layout
    )


def place_on_map(
    rows: np.ndarray, columns: np.ndarray | None, selected: tuple[int, int] | None
) -> tuple[int, int] | None:
    """(row, column) where an expert stands on the map; `columns` are of the rows as drawn."""
    if selected is None:
        return None
    row, expert = int(np.flatnonzero(rows == selected[0])[0]), selected[1]
    return row, expert if columns is None else int(np.flatnonzero(columns[row] == expert)[0])


def expert_at(rows: np.ndarray, columns: np.ndarray | None, place: tuple[int, int]) -> tuple[int, int]:
    """(row of the grid, expert) at a place on the map; `columns` are of the grid's rows."""
    row = int(rows[place[0]])
    return row, place[1] if columns is None else int(columns[row, place[1]])
