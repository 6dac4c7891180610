"""How far apart the experts that kinds of token use are, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from dashboard.charts import theme
from mode_core.modalities import ALL, AUDIO_TOKENS, KEY_AUDIO, KEY_TOKENS, VISION_TOKENS

_COLOURS = tuple(theme.KIND_COLOURS[kind] for kind in (VISION_TOKENS, KEY_TOKENS, ALL, KEY_AUDIO, AUDIO_TOKENS))


def divergence_by_layer(ticks: Sequence[str], divergence: Mapping[str, Sequence[float]]) -> go.Figure:
    """A line for each pair of kinds: Jensen–Shannon divergence in bits, 0 (equal) to 1 (nothing in common), by bank.

    `divergence` maps what is compared, in words, to `[L]` values; NaN where a bank saw no such token.
    """
    traces = [
        go.Scatter(
            x=list(ticks),
            y=np.asarray(values, float),
            name=name,
            mode="lines+markers",
            line={"color": colour, "width": 1.5},
            marker={"size": 5},
            hovertemplate=f"layer %{{x}}<br>{name}: %{{y:.3f}} bits<extra></extra>",
        )
        for colour, (name, values) in zip(_COLOURS, divergence.items(), strict=False)
    ]
    return theme.figure(
        traces,
        f"Lines over layers: Jensen–Shannon divergence of {' and of '.join(divergence)}.",
        _summary(ticks, divergence),
        title={"text": "How far apart kinds of token are, by layer"},
        height=320,
        margin={"l": 52, "r": 16, "t": 64, "b": 42},
        xaxis={"title": {"text": "layer"}, "type": "category", "showgrid": False, "nticks": 13},
        yaxis={"title": {"text": "Jensen–Shannon divergence, bits"}, "rangemode": "tozero", "nticks": 6},
    )


def _summary(ticks: Sequence[str], divergence: Mapping[str, Sequence[float]]) -> str:
    name, values = next(iter(divergence.items()))
    values = np.asarray(values, float)
    if not np.isfinite(values).any():
        return f"No tokens to compare for {name}."
    row = int(np.nanargmax(values))
    return f"{name[:1].upper()}{name[1:]}: largest in layer {ticks[row]}, {values[row]:.2f} bits of divergence."
