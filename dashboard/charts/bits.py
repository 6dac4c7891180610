"""The allocation itself: bits of every expert as a map, and how many experts of each layer have each width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from dashboard.charts import theme
from dashboard.charts.grids import Axes
from dashboard.charts.panels import BOTTOM, TOP
from mode_core.importance import CostTable

HATCH = ((4, "#ffffff"), (1.8, "#d55e00"))  # widths and colours of a stroke and its halo, seen on every width
MOST_HATCHED = 1500  # marks that a browser draws without being felt
MOST_DOTS = 500  # more moved experts than this are counted, not dotted: dots would hide the map


RESERVE = 540  # pixels of the window that stand above the map: card, sentence, slider, figures, folded settings


def map_height(axes: Axes) -> int:
    """Pixels of the map and of what stands beside it, by the number of banks, where there is no window."""
    return int(np.clip(9 * len(axes.names), 150, 432)) + TOP + BOTTOM


def in_window(axes: Axes) -> dict:
    """`meta` of both: as tall as the window has room for, so that the map is in view whole while a slider is held."""
    least = int(np.clip(24 * len(axes.names), 96, 140))
    return {"tall": [least + TOP + BOTTOM, max(150, 16 * len(axes.names)) + TOP + BOTTOM], "reserve": RESERVE}


def no_bits(axes: Axes, why: str) -> go.Figure:
    """In place of the map, as tall: why there is no allocation."""
    nothing = theme.empty(why, "Bits of every expert", map_height(axes))
    return nothing.update_layout(meta=nothing.layout.meta | in_window(axes))


def bit_map(
    axes: Axes,
    bits: Mapping[str, np.ndarray],
    widths: Sequence[int],
    before: Mapping[str, np.ndarray] | None = None,
    unsettled: Mapping[str, np.ndarray] | None = None,
    costs: CostTable | None = None,
    entries: str = "experts",
) -> go.Figure:
    """Layer × expert, coloured by bits: `bits` maps bank → int `[E]`, `widths` are all that may occur.

    `before` adds what each expert had at the last setting to its hover text, and a dot where it
    moved (up to `MOST_DOTS` of them). `unsettled`, bank → `[E]`: share of the folds of samples without which an
    expert gets other bits; where that is above 0 the cell is hatched, the `MOST_HATCHED` least settled of them.
    `costs` adds the predicted damage at every width to the hover text: why it is this one. `entries` says what the
    cells are where they are no whole experts.

    Raises:
        ValueError: a width in `bits` that is not among `widths`.
    """
    now = axes.stack(bits)
    scale, step = theme.width_scale(widths)
    if unknown := set(np.unique(now[np.isfinite(now)]).astype(int)) - set(step):
        held = sorted(map(int, unknown))
        raise ValueError(f"The allocation holds {held} bits, which are not among the widths {widths}.")
    ordered = np.array(sorted(step), np.float32)
    steps = np.where(np.isnan(now), np.nan, np.searchsorted(ordered, now)).astype(np.float32)
    then = now if before is None else axes.stack(before)
    moved = np.isfinite(now) & (then != now)
    traces: list = [_map(axes, steps, now, then, scale, list(step), before is not None)]
    if costs is not None:
        known = [width for width in ordered.astype(int).tolist() if width in costs.bits]
        told = f"<br>predicted damage at {', '.join(map(str, known))} bits:<br>%{{hovertext}}<extra>"
        traces[0].hovertext = _costs_told(axes, costs, known)
        traces[0].hovertemplate = traces[0].hovertemplate.replace("<extra>", told)
    hatched = [] if unsettled is None else _hatching(axes, now, axes.stack(unsettled))
    if before is not None:  # even without a dot: a trace that comes or goes amid a drag has all laid out anew
        dotted = bool(0 < moved.sum() <= MOST_DOTS)
        traces.append(_dots(axes, moved if dotted else moved & False).update(showlegend=bool(hatched) and dotted))
    traces += hatched
    experts = int(np.isfinite(now).sum())
    summary = ", ".join(
        f"{int((now == width).sum()):,} at {int(width)} bit{'' if width == 1 else 's'}" for width in ordered
    )
    return theme.figure(
        traces,
        "Map of the bits of every expert: experts across, layers down; lighter is more bits.",
        f"{experts:,} {entries}: {summary}.{_told(unsettled)}",
        title={"text": "Bits of every expert"},
        height=map_height(axes),
        margin={"l": 44, "r": 74, "t": TOP, "b": BOTTOM},
        xaxis=axes.x_axis(title={"text": "expert"}),
        yaxis=axes.y_axis(title={"text": "layer"}),
        meta=in_window(axes),
        showlegend=bool(hatched),
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom"},
    )


def _costs_told(axes: Axes, costs: CostTable, widths: Sequence[int]) -> list[list[str]]:
    """Predicted damage of every expert at each width, in words as short as they can be: `[L][E]`."""
    columns = [costs.bits.index(width) for width in widths]
    return [
        [", ".join(f"{cost:.2g}" for cost in own) for own in costs[bank][:, columns].tolist()] for bank in axes.names
    ]


def _told(unsettled: Mapping[str, np.ndarray] | None) -> str:
    if unsettled is None:
        return ""
    count = sum(int((share > 0).sum()) for share in unsettled.values())
    return f" {count:,} of them would get other bits without some of the samples."


def _hatching(axes: Axes, now: np.ndarray, share: np.ndarray) -> list[go.Scatter]:
    """A stroke in every cell whose width hangs on which samples were drawn."""
    rows, columns = np.nonzero(np.nan_to_num(share) > 0)
    if not rows.size:
        return []
    kept = np.sort(np.argsort(-share[rows, columns], kind="stable")[:MOST_HATCHED])
    rows, columns = rows[kept], columns[kept]
    symbol = {"symbol": "line-ne-open", "size": float(np.clip(640 / max(axes.experts), 4, 12))}
    places = {"x": columns, "y": np.array(axes.labels)[rows], "mode": "markers"}
    halo, stroke = ({"line": {"width": width, "color": colour}, "color": colour} for width, colour in HATCH)
    return [
        go.Scatter(**places, marker=symbol | halo, hoverinfo="skip", showlegend=False),
        go.Scatter(
            **places,
            marker=symbol | stroke,
            customdata=np.stack([now[rows, columns], 100 * share[rows, columns]], axis=1),
            hovertemplate="<b>expert %{x}</b> · %{y}<br>%{customdata[0]:.0f} bits, but others in %{customdata[1]:.0f} %"
            " of the tries<br>that leave out one of the eight parts of the samples<extra></extra>",
            name="other bits without some of the samples",
        ),
    ]


def _map(axes, steps, now, then, scale, widths, compared) -> go.Heatmap:
    count = len(widths)
    bar = {
        "title": {"text": "bits", "side": "top"},
        "tickvals": list(range(count)),
        "ticktext": [str(width) for width in widths],
        "x": 1.0,
        "xanchor": "left",
        "xpad": 8,
        "len": 1.0,
    }
    was = "<br>was %{text:.0f} bits" if compared else ""
    return go.Heatmap(
        z=steps,
        y=axes.labels,
        customdata=now,
        text=then,
        zmin=-0.5,
        zmax=count - 0.5,
        colorscale=scale,
        colorbar=bar,
        hoverongaps=False,
        hovertemplate=f"<b>expert %{{x}}</b> · %{{y}}<br>%{{customdata:.0f}} bits{was}<extra></extra>",
    )


def _dots(axes: Axes, where: np.ndarray) -> go.Scatter:
    rows, columns = np.nonzero(where)
    places = {"x": columns, "y": np.array(axes.labels)[rows]} if rows.size else {"x": [None], "y": axes.labels[:1]}
    marker = {"size": 4, "color": "#ffffff", "line": {"color": "#000000", "width": 1}}
    return go.Scatter(**places, mode="markers", marker=marker, hoverinfo="skip", name="moved")


def width_counts(axes: Axes, bits: Mapping[str, np.ndarray], widths: Sequence[int]) -> go.Figure:
    """Stacked bars: share of each layer's experts at each width; hover gives the number."""
    grid = axes.stack(bits)
    totals = np.asarray(axes.experts, float)
    traces = []
    for width in sorted(set(widths)):
        counts = (grid == width).sum(axis=1)
        traces.append(
            go.Bar(
                y=axes.labels,
                x=100 * counts / totals,
                customdata=counts,
                orientation="h",
                name=f"{width}",
                marker={"color": theme.width_colour(width), "line": {"width": 0}},
                hovertemplate=f"%{{y}}<br>{width} bits: %{{customdata}} experts (%{{x:.0f}} %)<extra></extra>",
            )
        )
    return theme.figure(
        traces,
        "Stacked bars: share of the experts of each layer at each bit-width.",
        "",
        title={"text": "Experts by bits"},
        barmode="stack",
        bargap=0.12,
        height=map_height(axes),
        meta=in_window(axes),
        margin={"l": 44, "r": 10, "t": TOP, "b": BOTTOM},
        xaxis={"range": [0, 100], "title": {"text": "% of the layer's experts"}, "showgrid": False},
        yaxis=axes.y_axis(title={"text": "layer"}),
        legend={"x": 1, "xanchor": "right", "traceorder": "normal"},
    )
