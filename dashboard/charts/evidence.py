"""What was measured of all methods: scores at each budget, differences with their intervals, rankings against truth.

Frames have the columns of `mode_core.runs.evidence.TABLES`; filtering by metric, modality and budget is done here,
so that a chart never mixes what does not compare.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard.charts import theme
from dashboard.words.names import ITEMS, VERDICTS
from dashboard.words.plain import plain_label
from mode_core.evaluation.verdicts import FEWEST_APART, LESS_IS_BETTER, Verdict, verdict
from mode_core.modalities import AUDIO_TOKENS, KEY_AUDIO, KEY_TOKENS, TEXT_TOKENS, USUAL, VISION_TOKENS

MEAN = -1  # calibration number of rows that are means over calibration draws
METRICS = {"accuracy": "exact answers, %", "kl": "KL to the original, nats", "agreement": "same next token, %"}
SCALES = {"accuracy": 100.0, "kl": 1.0, "agreement": 100.0}
LOOKS = {"better": ("#0072b2", "circle"), "worse": ("#d55e00", "square"), "level": (theme.QUIET, "circle-open")}
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#9467bd")
FIXED = {  # a method keeps its colour and symbol on every chart
    "mode": ("#009e73", "circle"),
    "frequency": ("#d55e00", "square"),
    "mode_soft_fisher": ("#0072b2", "star"),
    "soft_fisher": ("#56b4e9", "hexagram-open"),
    "mode_fisher": ("#0072b2", "star-open"),
    "fisher": ("#56b4e9", "star-open"),
    "mc": ("#cc79a7", "diamond"),
    "mc_released": ("#cc79a7", "diamond-open"),
    "veq": ("#e69f00", "triangle-up"),
    "mopeq": ("#9467bd", "x"),
    "reap": ("#8c564b", "triangle-down"),
    "hessian_trace": ("#9467bd", "cross"),
    "mode_output": ("#009e73", "circle-open"),
    "uniform": ("#8a8f98", "line-ew-open"),
    "random": ("#b5b9c0", "line-ew-open"),
}
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross", "star")
BAR = {"thickness": 1.5, "width": 4, "color": theme.QUIET}
Label = Callable[[str], str]


def lower_is_better(metric: str) -> bool:
    """Is less of this metric good?"""
    return metric in LESS_IS_BETTER


def means(scores: pd.DataFrame, metric: str, modality: str) -> pd.DataFrame:
    """Rows of `scores` for one metric and modality over all tasks, means over calibration draws."""
    chosen = (scores["metric"] == metric) & (scores["modality"] == modality) & (scores["task"] == "all")
    return scores[chosen & (scores["calibration"] == MEAN)]


def scores_by_budget(
    scores: pd.DataFrame, metric: str, modality: str, methods: Sequence[tuple[str, str]], label: Label = str
) -> go.Figure:
    """A metric against the budget, one line for each (method, scope) of `methods`, with 95 % intervals as bars.

    Raises:
        ValueError: a metric that is not known.
    """
    if metric not in METRICS:
        raise ValueError(f"Expected a metric of {list(METRICS)}; got {metric!r}.")
    rows, traces = means(scores, metric, modality), []
    for place, (method, scope) in enumerate(methods):
        own = rows[(rows["method"] == method) & (rows["scope"] == scope)].sort_values("average_bits")
        name = plain_label(label(method)) + (f", one budget for the {scope}" if _both(rows, method) else "")
        traces.append(_line(own, name, _look(method, place), metric))
    lines = -(-len(methods) // (3 if len(methods) <= 6 else 2))  # of the legend
    axis = {"title": {"text": METRICS[metric]}}
    if metric == "kl":
        axis = theme.log_axis(rows["value"].to_numpy(float), METRICS[metric])
    return theme.figure(
        traces,
        f"Lines with intervals: {METRICS[metric]} on {ITEMS[modality]} at each budget, one line a method.",
        _best(rows, metric, methods, label),
        title={"text": f"{METRICS[metric]}, on {ITEMS[modality]}"},
        height=max(420, 360 + 22 * lines),
        margin={"l": 64, "r": 16, "t": 40 + 22 * lines, "b": 44},
        xaxis={"title": {"text": "bits on average over the experts' weights"}, "showgrid": False},
        yaxis=axis,
    )


def _both(rows: pd.DataFrame, method: str) -> bool:
    return rows.loc[rows["method"] == method, "scope"].nunique() > 1


def _look(method: str, place: int) -> dict:
    """Colour, symbol and dash of a method, never told apart by colour alone."""
    colour, symbol = FIXED.get(method, (COLOURS[place % len(COLOURS)], SYMBOLS[place % len(SYMBOLS)]))
    dash = {"uniform": "dot", "random": "dash"}.get(method, "solid")
    return {
        "color": colour,
        "symbol": symbol,
        "dash": dash,
        "width": 3 if method in ("mode", "mode_soft_fisher") else 1.8,
    }


def _line(own: pd.DataFrame, name: str, look: Mapping, metric: str) -> go.Scatter:
    scale, unit = SCALES[metric], " %" if SCALES[metric] == 100 else " nats"
    value, low, high = (scale * own[column].to_numpy(float) for column in ("value", "low", "high"))
    return go.Scatter(
        x=own["average_bits"],
        y=value,
        mode="lines+markers",
        name=name,
        line={"color": look["color"], "width": look["width"], "dash": look["dash"]},
        marker={"symbol": look["symbol"], "size": 7},
        error_y={"type": "data", "array": high - value, "arrayminus": value - low, "thickness": 1, "width": 3},
        customdata=np.stack([low, high, own["items"].to_numpy(float)], axis=-1) if len(own) else None,
        hovertemplate=f"<b>{name}</b>, %{{x:.4g}} bits<br>%{{y:.4g}}{unit} (%{{customdata[0]:.4g}} to "
        "%{customdata[1]:.4g})<br>%{customdata[2]:.0f} items<extra></extra>",
    )


def _best(rows: pd.DataFrame, metric: str, methods: Sequence[tuple[str, str]], label: Label) -> str:
    """Who leads at the tightest budget where methods differ at all."""
    keys = pd.MultiIndex.from_frame(rows[["method", "scope"]])
    shown = rows[keys.isin(list(methods))]
    for budget in sorted(shown["average_bits"].unique()):
        here = shown[shown["average_bits"] == budget]
        if len(here) > 1 and here["value"].nunique() > 1:
            order = here.sort_values("value", ascending=lower_is_better(metric))
            first, last, scale = order.iloc[0], order.iloc[-1], SCALES[metric]
            return (
                f"At {budget:.3g} bits {label(first['method'])} is first ({scale * first['value']:.3g}) and "
                f"{label(last['method'])} last ({scale * last['value']:.3g}); bars are 95 % intervals."
            )
    return "Nothing to tell apart."


def paired_forest(
    paired: pd.DataFrame, against: str, average_bits: float, metric: str, modality: str, label: Label = str
) -> go.Figure:
    """Every method minus `against` at one budget, on the same items: points with 95 % intervals, best on top.

    Blue: surely better; orange: surely worse; grey: not told apart (`verdict`).
    """
    chosen = (paired["against"] == against) & np.isclose(paired["average_bits"], average_bits)
    rows = paired[chosen & (paired["metric"] == metric) & (paired["modality"] == modality)]
    if rows.empty:
        return theme.empty("This was not measured at this budget; choose another one.", "Differences")
    rows = rows.sort_values("difference", ascending=not lower_is_better(metric))
    scale = SCALES[metric]
    value, low, high = (scale * rows[column].to_numpy(float) for column in ("difference", "low", "high"))
    names = [plain_label(label(method)) for method in rows["method"]]
    sure = verdicts(rows)
    points = go.Scatter(
        x=value,
        y=names,
        mode="markers",
        marker={
            "size": 10,
            "color": [LOOKS[one][0] for one in sure],
            "symbol": [LOOKS[one][1] for one in sure],
        },
        error_x={"type": "data", "array": high - value, "arrayminus": value - low, **BAR},
        customdata=np.stack([low, high], axis=-1),
        text=[VERDICTS[one] + few(apart) for one, apart in zip(sure, rows["apart"], strict=True)],
        hovertemplate="<b>%{y}</b><br>%{x:+.3g} (%{customdata[0]:+.3g} to %{customdata[1]:+.3g})<br>%{text}"
        "<extra></extra>",
    )
    good = "left" if lower_is_better(metric) else "right"
    mark = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": 0, "x1": 0}
    unit = "points" if scale == 100 else "nats"
    return theme.figure(
        [points],
        f"Points with intervals: each method's difference from {label(against)} at {average_bits:.3g} bits.",
        f"{sure.count('better')} of {len(rows)} methods are surely better than {label(against)} here, "
        f"{sure.count('worse')} surely worse (95 % intervals, same items).",
        title={"text": f"Against {plain_label(label(against))} at {average_bits:.3g} bits: {good} is better"},
        height=90 + 30 * len(rows),
        margin={"l": 20 + 7 * max(map(len, names)), "r": 16, "t": 40, "b": 44},
        showlegend=False,
        shapes=[mark | {"line": {"color": theme.QUIET, "width": 1.5}}],
        xaxis={"title": {"text": f"{METRICS[metric].split(',')[0]}, difference in {unit}"}},
        yaxis={"showgrid": False, "type": "category"},
    )


def verdicts(paired: pd.DataFrame) -> list[Verdict]:
    """What each difference says for its method, by the one rule for that."""
    return [verdict(*row) for row in paired[["metric", "low", "high", "apart"]].itertuples(index=False)]


def few(apart: float) -> str:
    """That hardly any items differ, where it is so."""
    return f"; only {apart:.0f} items differ" if apart < FEWEST_APART else ""


def paired_by_budget(
    paired: pd.DataFrame, method: str, against: str, metric: str = "kl", label: Label = str
) -> go.Figure:
    """One method minus another at every budget, by kind of item, with intervals."""
    rows = paired[(paired["method"] == method) & (paired["against"] == against) & (paired["metric"] == metric)]
    scale, traces = SCALES[metric], []
    looks = {
        TEXT_TOKENS: (TEXT_TOKENS, "circle"),
        VISION_TOKENS: (KEY_TOKENS, "diamond"),
        AUDIO_TOKENS: (KEY_AUDIO, "square"),
    }
    kinds = [name for name in looks if name in USUAL or (rows["modality"] == name).any()]
    for place, modality in enumerate(kinds):
        shift, (kind, symbol) = 0.024 * (place - (len(kinds) - 1) / 2), looks[modality]
        colour = theme.KIND_COLOURS[kind]
        own = rows[rows["modality"] == modality].sort_values("average_bits")
        value, low, high = (scale * own[column].to_numpy(float) for column in ("difference", "low", "high"))
        traces.append(
            go.Scatter(
                x=own["average_bits"] + shift,
                y=value,
                mode="markers",
                marker={"color": colour, "size": 9, "symbol": symbol},
                error_y={"type": "data", "array": high - value, "arrayminus": value - low, "width": 4},
                name=ITEMS[modality],
                customdata=np.stack([own["average_bits"].to_numpy(float), low, high], axis=-1) if len(own) else None,
                hovertemplate=f"{ITEMS[modality]}, %{{customdata[0]:.4g}} bits<br>%{{y:+.3g}} "
                "(%{customdata[1]:+.3g} to %{customdata[2]:+.3g})<extra></extra>",
            )
        )
    both = rows[rows["modality"].isin(kinds)]
    sure = verdicts(both)
    better = "below" if lower_is_better(metric) else "above"
    mark = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 0, "y1": 0}
    return theme.figure(
        traces,
        f"Points with intervals: {label(method)} minus {label(against)} at each budget, by kind of item.",
        f"Surely better in {sure.count('better')} of {len(both)} cases, surely worse in {sure.count('worse')}; "
        f"elsewhere the interval crosses the line or fewer than {FEWEST_APART} items differ: not told apart.",
        title={
            "text": f"{plain_label(label(method))} minus {plain_label(label(against))} ({better} the line is better)"
        },
        height=380,
        margin={"l": 70, "r": 16, "t": 64, "b": 44},
        shapes=[mark | {"line": {"color": theme.QUIET, "width": 1.5}}],
        xaxis={"title": {"text": "bits on average"}, "showgrid": False},
        yaxis={"title": {"text": f"difference of {METRICS[metric]}"}, "nticks": 7},
    )
