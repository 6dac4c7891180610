"""How far what was served lies from what was calibrated on, by layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from dashboard.charts import theme
from mode_core.modalities import TEXT_TOKENS


def distance_by_layer(ticks: Sequence[str], distance: Sequence[float], new: Sequence[int]) -> go.Figure:
    """Bars of the Jensen–Shannon distance (0 alike, 1 nothing shared) of each layer's expert frequencies, `[L]`; `new`
    counts the experts that traffic uses and calibration never saw."""
    bars = go.Bar(
        x=list(ticks),
        y=np.asarray(distance, float),
        customdata=list(new),
        marker={"color": theme.KIND_COLOURS[TEXT_TOKENS]},
        hovertemplate="layer %{x}<br>distance %{y:.3f}<br>%{customdata} experts never calibrated<extra></extra>",
    )
    furthest = int(np.argmax(distance))
    return theme.figure(
        [bars],
        "Bars over layers: Jensen–Shannon distance of expert frequencies between calibration and traffic.",
        f"Largest in layer {ticks[furthest]}: {distance[furthest]:.2f}; 0 is alike, 1 is nothing shared.",
        title={"text": "How far traffic lies from calibration, by layer"},
        height=280,
        margin={"l": 58, "r": 16, "t": 40, "b": 44},
        bargap=0.25,
        xaxis={"title": {"text": "layer"}, "type": "category", "showgrid": False, "nticks": 13},
        yaxis={"title": {"text": "Jensen–Shannon distance"}, "rangemode": "tozero", "nticks": 6},
    )
