"""Measured accuracy per task for several models side by side, with intervals."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from dashboard.charts import theme
from dashboard.words.plain import plain_label

COLUMNS = ("model", "task", "accuracy", "low", "high", "items")
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8f98")


def accuracy_by_task(scores: pd.DataFrame, title: str = "Measured accuracy by task") -> go.Figure:
    """Grouped bars with intervals: columns model, task, accuracy, low, high (shares, 0–1), items (how many).

    Models and tasks keep the order in which they first appear.

    Raises:
        ValueError: a column is missing, or a share lies outside 0–1.
    """
    if missing := [column for column in COLUMNS if column not in scores]:
        raise ValueError(f"The scores lack the columns {missing}; expected {list(COLUMNS)}.")
    shares = scores[["accuracy", "low", "high"]]
    if ((shares < 0) | (shares > 1)).any(axis=None):
        raise ValueError("accuracy, low and high are shares between 0 and 1; got a value outside.")
    models = list(dict.fromkeys(scores["model"]))
    traces = [
        _bars(plain_label(model), scores[scores["model"] == model], _COLOURS[place % len(_COLOURS)])
        for place, model in enumerate(models)
    ]
    means = scores.groupby("model", sort=False)["accuracy"].mean()
    return theme.figure(
        traces,
        f"Grouped bars with intervals: accuracy per task of {', '.join(map(str, models))}.",
        "Mean over tasks: " + ", ".join(f"{model} {100 * value:.1f} %" for model, value in means.items()) + ".",
        title={"text": title},
        barmode="group",
        bargap=0.22,
        height=320,
        margin={"l": 52, "r": 16, "t": 64, "b": 48},
        xaxis={"showgrid": False, "type": "category"},
        yaxis={"range": [0, 104], "title": {"text": "exact answers, %"}, "nticks": 6},
    )


def _bars(model: str, rows: pd.DataFrame, colour: str) -> go.Bar:
    percent = 100 * rows["accuracy"]
    interval = {
        "type": "data",
        "array": 100 * (rows["high"] - rows["accuracy"]),
        "arrayminus": 100 * (rows["accuracy"] - rows["low"]),
        "thickness": 1.2,
        "width": 3,
    }
    return go.Bar(
        x=rows["task"].map(plain_label),
        y=percent,
        error_y=interval,
        name=model,
        marker={"color": colour},
        customdata=rows[["low", "high", "items"]].to_numpy(dtype=float) * [100, 100, 1],
        hovertemplate=(
            f"<b>{model}</b> · %{{x}}<br>%{{y:.1f}} % (%{{customdata[0]:.1f}}–%{{customdata[1]:.1f}}) "
            "of %{customdata[2]:.0f} items<extra></extra>"
        ),
    )
