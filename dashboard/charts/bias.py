"""How far counting all tokens together strays from what text (or key vision) tokens need, bank by bank."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from dashboard.charts import theme


def bias_bars(
    ticks: Sequence[str], divergence: dict[str, Sequence[float]], title: str = "Bias of counting"
) -> go.Figure:
    """Grouped bars, one group a bank: Jensen–Shannon divergence in bits, 0 (equal) to 1 (nothing in common).

    `divergence` maps what is compared, in words, to `[L]` values; NaN where a bank saw no such token.
    """
    colours = (theme.KIND_COLOURS["text"], theme.KIND_COLOURS["key"], theme.KIND_COLOURS["all"])
    traces = [
        go.Bar(
            x=list(ticks),
            y=np.asarray(values, float),
            name=name,
            marker={"color": colours[place % len(colours)]},
            hovertemplate=f"layer %{{x}}<br>{name}: %{{y:.3f}} bits<extra></extra>",
        )
        for place, (name, values) in enumerate(divergence.items())
    ]
    return theme.figure(
        traces,
        f"Bars per layer: Jensen–Shannon divergence of {' and of '.join(divergence)}.",
        _summary(ticks, divergence),
        title={"text": title},
        barmode="group",
        bargap=0.25,
        height=260,
        margin={"l": 52, "r": 16, "t": 60, "b": 42},
        xaxis={"title": {"text": "layer"}, "type": "category", "showgrid": False, "nticks": 13},
        yaxis={"title": {"text": "divergence, bits"}, "rangemode": "tozero", "nticks": 6},
    )


def _summary(ticks: Sequence[str], divergence: dict[str, Sequence[float]]) -> str:
    name, values = next(iter(divergence.items()))
    values = np.asarray(values, float)
    if not np.isfinite(values).any():
        return f"No tokens to compare for {name}."
    row = int(np.nanargmax(values))
    return f"{name[:1].upper()}{name[1:]}: largest in layer {ticks[row]}, {values[row]:.2f} bits of divergence."
