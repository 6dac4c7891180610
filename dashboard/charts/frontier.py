"""What every budget would cost: predicted damage against average bits, with uniform widths and this budget."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from dashboard.charts import theme
from mode_core.modalities import ALL, TEXT_TOKENS

HEIGHT = 324
MARGIN = {"l": 60, "r": 20, "t": 88, "b": 44}  # above: the title, and three names below each other where it is narrow


def frontier_chart(
    budgets: Sequence[float],
    damage: Sequence[float],
    uniform: Sequence[tuple[int, float, float]],
    current: tuple[float, float] | None = None,
    unit: str = "bits on average",
    rivals: Sequence[tuple[str, float, float]] = (),
) -> go.Figure:
    """The least predicted damage at every budget, as a line on a logarithmic axis.

    Args:
        budgets: `[N]`, ascending, in `unit`.
        damage: `[N]`, sum of the predicted costs at each.
        uniform: (width, budget, damage) with the same bits for all.
        current: (budget, damage) of the setting shown.
        unit: what the horizontal axis counts.
        rivals: (name, budget, damage) of other methods' allocations, judged by this method's costs.
    """
    budgets, damage = np.asarray(budgets, float), np.asarray(damage, float)
    hover = f"%{{x:.4g}} {unit}<br>predicted damage %{{y:.3g}}"
    line = {"color": theme.KIND_COLOURS[TEXT_TOKENS], "width": 2}
    traces = [
        go.Scatter(
            x=budgets, y=damage, mode="lines", line=line, name="this method", hovertemplate=f"{hover}<extra></extra>"
        )
    ]
    if rivals:
        traces.append(_rival_points(rivals, unit))
    traces.append(_uniform_points(uniform, unit))  # above those of a rival that comes to the same
    if current is not None:
        mark = {"size": 12, "color": theme.ACCENT, "symbol": "diamond"}
        hover = f"{hover}<extra>this budget</extra>"
        x, y = [[value] for value in current]
        told = {
            "mode": "markers+text",
            "text": ["this budget "],
            "textposition": "bottom left",
            "textfont": {"size": 11},
        }
        traces.append(
            go.Scatter(x=x, y=y, marker=mark, name="this budget", showlegend=False, hovertemplate=hover, **told)
        )
    return theme.figure(
        traces,
        "Line chart: least predicted damage at every budget, with uniform bit-widths as points.",
        _summary(budgets, damage, uniform, unit),
        title={"text": "Predicted damage at every budget (estimate)"},
        height=HEIGHT,
        margin=MARGIN | {"r": 46},
        xaxis={"title": {"text": unit}, "showgrid": False},
        yaxis=theme.log_axis(np.append(damage, [cost for _, _, cost in (*uniform, *rivals)]), "predicted damage"),
    )


def _uniform_points(uniform: Sequence[tuple[int, float, float]], unit: str) -> go.Scatter:
    last = len(uniform) - 1
    return go.Scatter(
        x=[budget for _, budget, _ in uniform],
        y=[damage for _, _, damage in uniform],
        mode="markers+text",
        text=[f"{width} bits" for width, _, _ in uniform],
        textposition=["middle right" if place == last else "top right" for place in range(last + 1)],
        textfont={"size": 11},
        cliponaxis=False,
        marker={"size": 8, "color": theme.QUIET, "symbol": "circle"},
        name="uniform bits",
        hovertemplate=f"%{{text}}: %{{x:.4g}} {unit}<br>predicted damage %{{y:.3g}}<extra></extra>",
    )


def _rival_points(rivals: Sequence[tuple[str, float, float]], unit: str) -> go.Scatter:
    names = [name for name, _, _ in rivals]
    return go.Scatter(
        x=[budget for _, budget, _ in rivals],
        y=[damage for _, _, damage in rivals],
        mode="markers",
        customdata=names,
        marker={"size": 8, "color": theme.KIND_COLOURS[ALL], "symbol": "x"},
        name="other methods, by these costs",
        hovertemplate=f"%{{customdata}}<br>%{{x:.4g}} {unit}<br>%{{y:.3g}} by this method's costs<extra></extra>",
    )


def _summary(budgets: np.ndarray, damage: np.ndarray, uniform: Sequence[tuple[int, float, float]], unit: str) -> str:
    """How small a budget does as well as the widest uniform width that can be beaten."""
    for width, budget, cost in sorted(uniform, reverse=True):
        enough = np.flatnonzero(damage <= cost * (1 + 1e-9))
        if enough.size and budgets[enough[0]] < 0.995 * budget:
            least = f"{budgets[enough[0]]:.3g} {unit}"
            return f"If this method's costs are right, {least} do no more damage than uniform {width} bits."
    return "By this method's costs no budget does better than uniform bits."


def damage_by_layer(
    ticks: Sequence[str], chosen: Sequence[float], uniform: Sequence[float], uniform_name: str
) -> go.Figure:
    """Predicted damage of each layer under this allocation beside a uniform one: `[L]` each, in cost units."""
    rows = (("this allocation", chosen, theme.KIND_COLOURS[TEXT_TOKENS]), (uniform_name, uniform, theme.QUIET))
    traces = [
        go.Bar(
            x=list(ticks),
            y=np.asarray(values, float),
            name=name,
            marker={"color": colour},
            hovertemplate=f"layer %{{x}}<br>{name}: %{{y:.3g}}<extra></extra>",
        )
        for name, values, colour in rows
    ]
    return theme.figure(
        traces,
        "Bars: predicted damage of each layer under this allocation and under uniform bits.",
        f"By this method's own costs {sum(chosen):.3g} in all, against {sum(uniform):.3g} with {uniform_name}; how far "
        "they come true is told above.",
        title={"text": "Predicted damage by layer (estimate)"},
        barmode="group",
        bargap=0.25,
        height=HEIGHT,
        margin=MARGIN,
        xaxis={"title": {"text": "layer"}, "type": "category", "showgrid": False, "nticks": 13},
        yaxis={"title": {"text": "predicted damage"}, "rangemode": "tozero"},
    )
