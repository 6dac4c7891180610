"""What quantizing one expert alone really did, against what each method says of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard.charts import theme
from dashboard.charts.evidence import BAR, COLOURS, FIXED, MEAN, SYMBOLS, Label
from dashboard.words.names import ITEMS
from dashboard.words.plain import plain_label
from mode_core.modalities import TEXT_TOKENS
from mode_core.prediction import Ranking


def ranking_dots(ranking: pd.DataFrame, bits: int, modality: str, bank: str = "all", label: Label = str) -> go.Figure:
    """Rank correlation of each method's costs with what quantizing an expert alone really did, with intervals."""
    chosen = (ranking["bank"] == bank) & (ranking["bits"] == bits) & (ranking["calibration"] == MEAN)
    rows = ranking[chosen & (ranking["modality"] == modality)].sort_values("spearman")
    if rows.empty:
        return theme.empty("No ranking was measured here; choose another width or layer.", "Rankings")
    value, low, high = (rows[column].to_numpy(float) for column in ("spearman", "low", "high"))
    names = [plain_label(label(method)) for method in rows["method"]]
    points = go.Scatter(
        x=value,
        y=names,
        mode="markers",
        marker={"size": 10, "color": [FIXED.get(method, (theme.QUIET, ""))[0] for method in rows["method"]]},
        error_x={"type": "data", "array": high - value, "arrayminus": value - low, **BAR},
        customdata=np.stack([low, high], axis=-1),
        hovertemplate="<b>%{y}</b><br>%{x:.3f} (%{customdata[0]:.3f} to %{customdata[1]:.3f})<extra></extra>",
    )
    return theme.figure(
        [points],
        "Points with intervals: rank correlation of each method with the measured truth, best on top.",
        f"Nearest to the truth: {names[-1]} ({value[-1]:.2f}); furthest: {names[0]} ({value[0]:.2f}).",
        title={"text": f"Agreement with the truth at {bits} bits, {ITEMS[modality]}"},
        height=90 + 30 * len(rows),
        margin={"l": 20 + 7 * max(map(len, names)), "r": 16, "t": 40, "b": 44},
        showlegend=False,
        xaxis={"title": {"text": "Spearman's rank correlation (1: the same order)"}},
        yaxis={"showgrid": False, "type": "category"},
    )


def truth_scatter(truth: pd.DataFrame, title: str) -> go.Figure:
    """What a method says of each expert against what was measured, both logarithmic.

    Columns layer (its short name), expert, cost and kl; experts without a positive value of both are left out and told.
    """
    held = truth[(truth["cost"] > 0) & (truth["kl"] > 0)]
    missing = len(truth) - len(held)
    traces = []
    for place, (layer, own) in enumerate(held.groupby("layer", sort=False)):
        traces.append(
            go.Scattergl(
                x=own["cost"],
                y=own["kl"],
                mode="markers",
                name=f"layer {layer}",
                marker={
                    "size": 7,
                    "color": COLOURS[place % len(COLOURS)],
                    "symbol": SYMBOLS[place // len(COLOURS) % len(SYMBOLS)],
                    "opacity": 0.8,
                },
                customdata=own["expert"],
                hovertemplate=f"<b>expert %{{customdata}}</b> of layer {layer}<br>the method says %{{x:.3g}}<br>"
                "measured %{y:.3g} nats<extra></extra>",
            )
        )
    order = held[["cost", "kl"]].rank().corr().iloc[0, 1] if len(held) > 1 else np.nan
    told = f"Rank correlation over all experts: {order:.2f}." if np.isfinite(order) else "Too few experts to compare."
    return theme.figure(
        traces,
        "Dots: one for each expert, what the method says across, what was measured up, both logarithmic.",
        told + (f" {missing} experts without a positive value of both are not drawn." if missing else ""),
        title={"text": title},
        height=400,
        margin={"l": 70, "r": 16, "t": 64, "b": 44},
        showlegend=len(traces) <= 12,
        xaxis=theme.log_axis(held["cost"].to_numpy(float), "what the method says (its own unit)"),
        yaxis=theme.log_axis(held["kl"].to_numpy(float), "measured KL, nats"),
    )


def check_scatter(
    predicted: Sequence[float], measured: Sequence[float], name: str, ranked: Ranking | None
) -> go.Figure:
    """What a method predicts for each random group of experts against what was measured, `[G]` each."""
    points = go.Scatter(
        x=list(predicted),
        y=list(measured),
        mode="markers",
        marker={"size": 8, "color": theme.KIND_COLOURS[TEXT_TOKENS], "opacity": 0.8},
        hovertemplate="predicted %{x:.3g}<br>measured %{y:.3g} nats<extra></extra>",
    )
    told = "This method tells no groups apart." if ranked is None else (
        f"Rank correlation {ranked.spearman:.2f} ({ranked.low:.2f} to {ranked.high:.2f}, 95 %)."
    )  # fmt: skip
    return theme.figure(
        [points],
        "Dots: one for each random group of experts, predicted damage across, measured up.",
        told,
        title={"text": f"{plain_label(name)}: predicted against measured, {len(points.x)} groups"},
        height=400,
        margin={"l": 70, "r": 16, "t": 40, "b": 44},
        showlegend=False,
        xaxis={"title": {"text": "predicted damage of the group (the method's own unit)"}},
        yaxis={"title": {"text": "measured KL, nats per answer token"}, "rangemode": "tozero"},
    )
