"""Which experts of a layer each task uses: one strip a task under each other, on one expert axis and one scale.

Strips of colour, not bars: of 128 experts a bar is seven pixels wide, and in a panel as low as eighteen tasks allow its
height tells little; where a strip changes its colour is seen at any number of experts, and compared down the page.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go

from dashboard.charts import theme
from dashboard.charts.frequency import doublings, load_ticks
from dashboard.charts.panels import bar, crosshair
from dashboard.words.plain import plain_label
from mode_core.modalities import KINDS

FEWEST = 5  # selections an expert would get by an even spread: below, a share is mostly chance
STRIP, BETWEEN = 15, 17  # pixels of a strip, and of its name above it
LONGEST = 48  # letters of a task's name
EVERY = "All tasks together"
UNNAMED = "samples that name no task"
VEIL = [[0, "rgba(128,128,128,0.6)"], [1, "rgba(128,128,128,0.6)"]]


def use_by_task(
    counts: Mapping[str, np.ndarray], kind: str, layer: str, columns: np.ndarray | None = None, expert: int = 0
) -> go.Figure:
    """Strips of one bank, all tasks together first, then the task with the most selections; colour: log₂ of load.

    Args:
        counts: task → top-k selections of every expert `[E]` by its tokens of this `kind`.
        columns: experts from left to right `[E]`; None: by number.
        expert: the one under the crosshair.
    """
    order = sorted(counts, key=lambda task: -counts[task].sum())
    table = np.stack([sum(counts.values()), *(counts[task] for task in order)]).astype(float)
    size, sums = table.shape[1], table.sum(axis=1, keepdims=True)
    load = np.divide(table * size, sums, out=np.full_like(table, np.nan), where=sums > 0)
    few = (sums < FEWEST * size).ravel()
    columns = np.arange(size) if columns is None else columns
    names = [EVERY, *(plain_label(_shortened(task or UNNAMED)) for task in order)]
    tokens, z = KINDS[kind].title.removeprefix("all "), doublings(load[:, columns])
    end, ticks, texts = load_ticks(z[~few], z)
    strips = {
        "type": "heatmap",
        "z": z,
        "text": load[:, columns].astype(np.float32),
        "hovertext": table[:, columns].astype(np.float32),
        "customdata": np.ascontiguousarray(np.broadcast_to(columns.astype(np.float32), z.shape)),
        "y": names,
        "name": "load",
        "meta": "times",
        "coloraxis": "coloraxis",
        "hovertemplate": f"<b>expert %{{customdata:.0f}}</b> · %{{y}}<br>%{{text:.2f}}× an even share of its {tokens}"
        "<br>%{hovertext:,.0f} tokens<extra></extra>",
        "ygap": BETWEEN,
    }
    veil = {key: strips[key] for key in ("type", "y", "ygap")} | {"showscale": False, "hoverinfo": "skip"}
    veil |= {"z": np.where(few[:, None], np.float32(0), np.full_like(z, np.nan)), "colorscale": VEIL}
    at = (0, int(np.flatnonzero(columns == expert)[0]))
    across = "expert" if size and np.array_equal(columns, np.arange(size)) else "experts, from text to denoised vision"
    rows = len(names)
    return theme.figure(
        [strips, veil],
        f"Strips, one a task, experts of layer {layer} across: its load of each expert in {tokens}.",
        _summary(load, few, names, tokens),
        title={"text": f"Layer {layer}: use by task, {tokens}"},
        height=56 + 44 + rows * (STRIP + BETWEEN),
        margin={"l": 12, "r": 74, "t": 56, "b": 44, "autoexpand": False},
        annotations=[_named(name, row, sums[row, 0], few[row]) for row, name in enumerate(names)],
        shapes=[line for line in crosshair(at, 1) if line["name"] == "column"],  # a row would cross the names
        coloraxis={"colorscale": theme.DIFFERENCE_SCALE, "cmin": -end, "cmax": end, "cmid": 0,
                   "colorbar": bar("× even", [(0.0, 1.0)], ticks, texts)},
        xaxis={"range": [-0.5, size - 0.5], "showgrid": False, "zeroline": False, "title": {"text": across}}
        | ({} if across == "expert" else {"showticklabels": False}),
        yaxis={"range": [rows - 0.5, -0.5], "visible": False, "type": "category"},
        meta={"at": list(at), "experts": [size] * rows},
    )  # fmt: skip


def _shortened(task: str) -> str:
    return task if len(task) <= LONGEST else f"{task[: LONGEST - 1]}…"


def _named(name: str, row: int, selections: float, few: bool) -> dict:
    """What a strip is, above it."""
    told = f"<b>{name}</b> · {selections:,.0f} selections" + (", too few to tell" if few else "")
    place = {"x": 0, "xref": "paper", "xanchor": "left", "y": row - 0.5, "yanchor": "middle", "yshift": 1}
    return {"text": told, "showarrow": False, "font": {"size": 11}, **place}


def _summary(load: np.ndarray, few: np.ndarray, names: list[str], tokens: str) -> str:
    """The task and expert that are furthest above what all tasks together do."""
    apart = np.where(few[1:, None], -np.inf, load[1:] - load[:1])
    left = f" {few[1:].sum()} of {len(few) - 1} tasks have too few {tokens} to tell (veiled)." * bool(few[1:].any())
    if not np.isfinite(apart).any():
        return f"No task has enough {tokens} to tell."
    row, expert = np.unravel_index(np.argmax(apart), apart.shape)
    return (
        f"Furthest from the others: {names[row + 1]} uses expert {expert} at {load[row + 1, expert]:.1f}× an even "
        f"share, all tasks together at {load[0, expert]:.1f}×. Where all strips look alike, the layer tells no tasks "
        f"apart.{left}"
    )
