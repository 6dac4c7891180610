"""How much of an answer rests on one setting: what moves while the key ratio, or the signal, is another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from dashboard.charts import theme
from dashboard.words.plain import plain_label
from dashboard.words.sizes import percent
from mode_core.modalities import KEY_TOKENS, TEXT_TOKENS
from mode_core.prediction import Sufficiency


def frequency_drift(ratios: Sequence[float], divergence: np.ndarray, chosen: float) -> go.Figure:
    """Divergence of key frequencies at every ratio from those at the chosen one: `divergence` is `[R, L]`, in bits.

    The line is the median over layers, the band reaches from the least to the most; NaN layers had no vision token.
    """
    percent = 100 * np.asarray(ratios, float)
    known = np.isfinite(divergence).any(axis=0)
    if not known.any():
        return theme.empty("No vision tokens were routed, so there is no key ratio to turn.", "Frequencies")
    least, middle, most = (np.percentile(divergence[:, known], at, axis=1) for at in (0, 50, 100))
    colour, faint = theme.KIND_COLOURS[KEY_TOKENS], "rgba(0,158,115,0.22)"
    none = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    traces = [
        go.Scatter(x=percent, y=most, **none),
        go.Scatter(x=percent, y=least, fill="tonexty", fillcolor=faint, **none),
        go.Scatter(
            x=percent,
            y=middle,
            mode="lines+markers",
            line={"color": colour, "width": 2},
            marker={"size": 5},
            name="median over layers",
            customdata=np.stack([least, most], axis=-1),
            hovertemplate="key ratio %{x:.0f} %<br>median %{y:.3f} bits (layers: %{customdata[0]:.3f} to "
            "%{customdata[1]:.3f})<extra></extra>",
        ),
    ]
    return theme.figure(
        traces,
        "Line with a band: divergence of the key frequencies at each key ratio from those at the chosen one.",
        _drift_told(percent, most),
        title={"text": "Frequencies: distance from the chosen ratio's"},
        **_layout(100 * chosen, "divergence, bits"),
    )


def _drift_told(percent: np.ndarray, most: np.ndarray) -> str:
    worst = int(np.argmax(most))
    return f"Furthest at {percent[worst]:.0f} %: up to {most[worst]:.3f} bits in one layer (0 the same, 1 disjoint)."


def bits_drift(ratios: Sequence[float], changed: np.ndarray, chosen: float) -> go.Figure:
    """Share of experts, 0–1 `[R]`, that would get other bits at each ratio than at the chosen one."""
    tried, moved = 100 * np.asarray(ratios, float), 100 * np.asarray(changed, float)
    line = go.Scatter(
        x=tried,
        y=moved,
        mode="lines+markers",
        line={"color": theme.KIND_COLOURS[TEXT_TOKENS], "width": 2},
        marker={"size": 5},
        name="experts with other bits",
        hovertemplate="key ratio %{x:.0f} %<br>%{y:.1f} % of the experts have other bits<extra></extra>",
    )
    near = moved[np.abs(tried - 100 * chosen) <= 10]
    told = (
        f"Within 10 points of the chosen ratio at most {percent(near.max() / 100)} of the experts change their bits"
        if (near.size)
        else "The chosen ratio lies outside of what was tried"
    )
    return theme.figure(
        [line],
        "Line: share of experts whose bits differ from the chosen allocation, at each key ratio.",
        f"{told}; over all ratios at most {percent(moved.max() / 100)}.",
        title={"text": "Bits: share of experts that would change"},
        **_layout(100 * chosen, "experts with other bits, %"),
    )


def _layout(chosen: float, across: str) -> dict:
    mark = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": chosen, "x1": chosen}
    return {
        "height": 280,
        "margin": {"l": 58, "r": 16, "t": 40, "b": 44},
        "showlegend": False,
        "shapes": [mark | {"line": {"color": theme.ACCENT, "width": 1.5, "dash": "dot"}}],
        "xaxis": {"title": {"text": "key ratio, % (dotted: the chosen one)"}, "range": [0, 102], "showgrid": False},
        "yaxis": {"title": {"text": across}, "rangemode": "tozero", "nticks": 6},
    }


def signal_drift(changed: Mapping[str, float], divergence: Mapping[str, float]) -> go.Figure:
    """By signal: share of experts (0–1) that would get other bits, and mean divergence of key frequencies in bits."""
    names = list(changed)
    bars = go.Bar(
        y=list(map(plain_label, names)),
        x=[100 * changed[name] for name in names],
        orientation="h",
        marker={"color": theme.KIND_COLOURS[TEXT_TOKENS]},
        text=[percent(changed[name]) for name in names],
        textposition="outside",
        cliponaxis=False,
        customdata=[divergence[name] for name in names],
        hovertemplate="%{y}<br>%{x:.1f} % of the experts have other bits<br>key frequencies %{customdata:.3f} bits "
        "away, mean over layers<extra></extra>",
    )
    top = max([5.0, *(130 * share for share in changed.values())])
    most = max(changed, key=changed.get, default="")
    return theme.figure(
        [bars],
        "Bars: share of experts whose bits would change under each other redundancy signal.",
        f"Most under “{most}”: {percent(changed[most])} of the experts." if most else "There is no other signal.",
        title={"text": "Bits: share of experts that would change with another signal"},
        height=70 + 34 * max(2, len(names)),
        margin={"l": 220, "r": 20, "t": 40, "b": 40},
        bargap=0.35,
        xaxis={"range": [0, min(top, 112)], "title": {"text": "experts with other bits, %"}, "nticks": 6},
        yaxis={"autorange": "reversed", "ticklabelstandoff": 6},
    )


def sufficiency_curve(found: Sequence[Sufficiency]) -> go.Figure:
    """What fewer samples would have come to: share of experts with other bits, and damage by the costs of all."""
    samples, last = [one.samples for one in found], found[-2]
    lines = (
        ("experts with other bits", [100 * one.changed for one in found], TEXT_TOKENS, "solid", "circle"),
        ("more predicted damage", [100 * (one.excess - 1) for one in found], "all", "dot", "square"),
    )
    traces = [
        go.Scatter(
            x=samples,
            y=values,
            mode="lines+markers",
            name=f"{name}, %",
            line={"color": theme.KIND_COLOURS[kind], "dash": dash},
            marker={"symbol": symbol},
            hovertemplate=f"%{{x}} samples: %{{y:.1f}} % {name}<extra></extra>",
        )
        for name, values, kind, dash, symbol in lines
    ]
    return theme.figure(
        traces,
        "Two lines over the number of samples: share of experts with other bits, and predicted damage lost by that.",
        f"With {last.samples} of the {samples[-1]} samples {percent(last.changed)} of the experts had other bits, "
        f"and {100 * (last.excess - 1):.1f} % more damage by the costs of all. Samples of other kinds might say more.",
        title={"text": "What fewer samples would have come to"},
        height=300,
        margin={"l": 60, "r": 20, "t": 64, "b": 44},
        xaxis={"title": {"text": "calibration samples (whole folds, about)"}, "rangemode": "tozero", "showgrid": False},
        yaxis={"title": {"text": "% against all samples"}, "rangemode": "tozero"},
    )
