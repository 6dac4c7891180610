"""What quantizing one expert alone breaks, by kind of token and width: a map on a logarithmic colour scale."""

from __future__ import annotations

import numpy as np

from dashboard.charts import theme
from dashboard.charts.grids import Axes, reorder
from dashboard.charts.measures import SensitivityGrid
from dashboard.charts.panels import Panel, bar, within
from mode_core.modalities import MODALITIES, TEXT_TOKENS, VISION_TOKENS, shown_of

KINDS = {kind: theme.KIND_NAMES[kind] for kind in shown_of(MODALITIES)}


def sensitivity_panel(
    grid: SensitivityGrid, axes: Axes, bits: int, kind: str, rows: np.ndarray, columns: np.ndarray | None
) -> Panel:
    """Error of every expert at one width on one kind of token.

    Args:
        axes: the banks in the order drawn, which `rows` of the grid make.
        bits: a width that was measured.
        columns: expert order per drawn bank, int `[L, E]`, as `specialisation_order` gives it.

    Raises:
        ValueError: a width that was not measured, or an unknown kind.
    """
    if bits not in grid.bits:
        raise ValueError(f"Sensitivity was measured at {grid.bits} bits, not at {bits}.")
    if kind not in grid.errors:
        raise ValueError(f"Expected a kind of {list(grid.errors)}; got {kind!r}.")
    error = reorder(grid.errors[kind][rows, :, grid.bits.index(bits)], columns)
    support = reorder(grid.support[kind][rows], columns)
    missing = np.isnan(error) & reorder(within(axes), columns)
    experts = np.broadcast_to(np.arange(error.shape[1]), error.shape) if columns is None else columns
    hover = (
        "<b>expert %{customdata:.0f}</b> · %{y}<br>"
        f"squared error at {bits} bits %{{text:.3g}}<br>over %{{hovertext:,.0f}} {KINDS[kind]}<extra></extra>"
    )
    heatmap = {
        "type": "heatmap",
        "z": _log10(error),
        "text": error,
        "hovertext": support,
        "customdata": experts.astype(np.float32),
        "hovertemplate": hover,
        "y": axes.labels,
        "coloraxis": "coloraxis2",
        "hoverongaps": False,
        "name": f"squared error at {bits} bits",
    }
    title = f"Sensitivity</b> · mean squared output error at {bits} bits, {KINDS[kind]}<b>"
    return Panel(title, heatmap, missing, f"no {KINDS[kind]} measured here")


def _log10(values: np.ndarray) -> np.ndarray:
    """Base-10 logarithm, float32; NaN where the value is missing or 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log10(values)
    return np.where(np.isfinite(logs), logs, np.nan).astype(np.float32)


def sensitivity_scale(grid: SensitivityGrid, band: tuple[float, float]) -> dict:
    """One scale for all kinds and widths, from text and all vision tokens, so that no drag rescales it."""
    logs = _log10(np.stack([grid.errors[TEXT_TOKENS], grid.errors[VISION_TOKENS]]))
    known = logs[np.isfinite(logs)]
    low, high = (np.floor(known.min()), np.ceil(known.max())) if known.size else (-6, 0)
    if known.size and high - low > 2:  # a single outlier need not darken all others
        low, high = np.floor(np.percentile(known, 1)), np.ceil(np.percentile(known, 99))
    low, high = int(low), int(max(high, low + 1))
    ticks = list(range(low, high + 1, max(1, (high - low) // 4)))
    texts = [f"10<sup>{tick}</sup>" for tick in ticks]
    texts[0] = "≤ " * bool(known.size and known.min() < low) + texts[0]
    if ticks[-1] == high:
        texts[-1] = "≥ " * bool(known.size and known.max() > high) + texts[-1]
    return {"colorscale": theme.ERROR_SCALE, "cmin": low, "cmax": high, "colorbar": bar("error", [band], ticks, texts)}


def sensitivity_summary(grid: SensitivityGrid, bits: int) -> str:
    """How far apart the most and the least sensitive experts are for text."""
    error = grid.errors[TEXT_TOKENS][..., grid.bits.index(bits)]
    known = error[np.isfinite(error) & (error > 0)]
    if not known.size:
        return f"No expert's error at {bits} bits was measured on text tokens."
    factor = float(known.max() / known.min())
    return f"At {bits} bits the most sensitive expert errs {factor:,.0f} times as much on text as the least."
