"""One bank and one expert close up: every expert's shares in the bank, and one expert's error by width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from dashboard.charts import theme
from mode_core.importance import bias
from mode_core.modalities import (
    ALL,
    AUDIO_TOKENS,
    KEY_AUDIO,
    KEY_TOKENS,
    KINDS,
    MODALITIES,
    REDUNDANT_TOKENS,
    TEXT_TOKENS,
    VISION_TOKENS,
    shown_of,
)

_SYMBOLS = {
    TEXT_TOKENS: "circle",
    VISION_TOKENS: "diamond-open",
    KEY_TOKENS: "diamond",
    REDUNDANT_TOKENS: "x-thin-open",
    ALL: "line-ew-open",
    AUDIO_TOKENS: "square-open",
    KEY_AUDIO: "square",
}


def bank_profile(
    shares: Mapping[str, np.ndarray], counts: Mapping[str, np.ndarray], name: str, selected: int | None = None
) -> go.Figure:
    """Experts of one bank from the busiest for text to the idlest; dots for every kind of token.

    `shares[kind]` is `[E]` (sums to 1; NaN where no such token was routed), `counts[kind]` the tokens behind.
    The line from ◇ (all vision) to ◆ (key vision) is what removing redundant tokens changes.
    """
    order = np.argsort(-np.nan_to_num(shares[TEXT_TOKENS]), kind="stable")
    places, even = np.arange(order.size), 100 / order.size
    traces: list = [_denoising(100 * shares[VISION_TOKENS][order], 100 * shares[KEY_TOKENS][order])]
    for kind in (kind for kind in shown_of(MODALITIES) if kind in shares):
        marker = {
            "color": theme.KIND_COLOURS[kind],
            "symbol": _SYMBOLS[kind],
            "size": 7,
            "line": {"width": 1.2, "color": theme.KIND_COLOURS[kind]},
        }
        traces.append(
            go.Scatter(
                x=places,
                y=100 * shares[kind][order],
                mode="markers",
                marker=marker,
                name=theme.KIND_NAMES[kind],
                customdata=np.stack([order, counts[kind][order]], axis=-1),
                hovertemplate=(
                    "<b>expert %{customdata[0]:.0f}</b><br>%{y:.2f} % of "
                    + theme.KIND_NAMES[kind]
                    + ", %{customdata[1]:,.0f} tokens<extra></extra>"
                ),
            )
        )
    line = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": even, "y1": even}
    shapes = [line | {"line": {"color": theme.QUIET, "width": 1, "dash": "dot"}}]
    if selected is not None:
        at = int(np.flatnonzero(order == selected)[0])
        band = {"type": "rect", "yref": "paper", "y0": 0, "y1": 1, "x0": at - 0.5, "x1": at + 0.5, "layer": "below"}
        shapes.append(band | {"fillcolor": "rgba(213,94,0,0.18)", "line": {"width": 0}})
    every = 1 if order.size <= 40 else -(-order.size // 16)
    return theme.figure(
        traces,
        "Dots: share of text, all vision and key vision tokens of every expert in one layer, busiest for text first.",
        _starved(shares),
        title={"text": f"{name}: experts by text share (dotted line: an even share)"},
        height=320,
        margin={"l": 52, "r": 16, "t": 64, "b": 42},
        shapes=shapes,
        xaxis={
            "title": {"text": "expert, busiest for text first"},
            "tickvals": places[::every],
            "ticktext": [str(expert) for expert in order[::every]],
            "tickfont": {"size": 10},
            "showgrid": False,
            "range": [-0.7, order.size - 0.3],
        },
        yaxis={"title": {"text": "share, %"}, "rangemode": "tozero", "nticks": 6},
    )


def _denoising(vision: np.ndarray, key: np.ndarray) -> go.Scatter:
    """Thin vertical lines from the share of all vision tokens to that of the key ones, as one trace."""
    x = np.repeat(np.arange(vision.size, dtype=float), 3)
    y = np.stack([vision, key, np.full_like(vision, np.nan)], axis=-1).ravel()
    line = {"color": "rgba(0,158,115,0.45)", "width": 1.5}
    return go.Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False)


def _starved(shares: Mapping[str, np.ndarray]) -> str:
    """How many of the busiest text experts counting all tokens puts in the lower half."""
    low, top = bias.starved(shares[TEXT_TOKENS], shares[ALL]).sum(), bias.busiest(shares[TEXT_TOKENS]).sum()
    return f"{low} of the {top} busiest experts for text are in the lower half by count of all tokens."


def expert_frequencies(
    shares: Mapping[str, float], counts: Mapping[str, float], even: float, ranks: Mapping[str, int]
) -> go.Figure:
    """One expert's share (%) of every kind of token, with and without redundant vision tokens, and its rank there.

    `shares[kind]` is a fraction or NaN (no such token in its layer, and no rank); `even` is 1 / experts.
    """
    kinds = [kind for kind in KINDS if kind in shares]
    values = [100 * shares[kind] for kind in kinds]
    gone = [np.isnan(value) for value in values]
    told = [
        f"{theme.KIND_NAMES[kind]}: <b>{'none came here' if none else f'{value:.2f} %, rank {ranks[kind]}'}</b>"
        for kind, value, none in zip(kinds, values, gone, strict=True)
    ]
    bar = go.Bar(
        y=kinds,
        x=[0 if none else value for value, none in zip(values, gone, strict=True)],
        orientation="h",
        marker={"color": [theme.KIND_COLOURS[kind] for kind in kinds]},
        width=0.34,
        offset=0.1,
        customdata=[counts[kind] for kind in kinds],
        hovertemplate="%{x:.2f} %, %{customdata:,.0f} tokens<extra></extra>",
    )
    notes = [
        {"x": 0, "xref": "paper", "xanchor": "left", "y": place, "yanchor": "bottom", "text": text, "showarrow": False}
        for place, text in enumerate(told)
    ]
    mark = {"type": "line", "x0": 100 * even, "x1": 100 * even}
    mark |= {"line": {"color": theme.QUIET, "width": 1.5, "dash": "dot"}}
    plain = "; ".join(text.replace("<b>", "").replace("</b>", "") for text in told)
    return theme.figure(
        [bar],
        f"Bars: the share of one expert in every kind of token. {plain}.",
        "",
        title={"text": "Share of tokens, % (dotted: even)"},
        height=250,
        margin={"l": 8, "r": 12, "t": 34, "b": 28},
        annotations=notes,
        showlegend=False,
        shapes=[mark | {"y0": place + 0.05, "y1": place + 0.49} for place in range(len(kinds))],
        xaxis={"rangemode": "tozero", "nticks": 5, "showgrid": False},
        yaxis={"range": [len(kinds) - 0.4, -0.5], "visible": False, "type": "category"},
    )


def error_by_width(
    bits: Sequence[int], errors: Mapping[str, np.ndarray], median: Mapping[str, np.ndarray]
) -> go.Figure:
    """One expert's squared error at each width, logarithmic; thin lines: the median of its bank.

    `errors[kind]` and `median[kind]` are `[B]`; NaN where nothing was measured.
    """
    traces = []
    for kind, values in errors.items():
        colour = theme.KIND_COLOURS[kind]
        name = theme.KIND_NAMES[kind]
        traces.append(_line(bits, values, colour, name, 2.0, "solid"))
        traces.append(_line(bits, median[kind], colour, f"median of the layer, {name}", 1.0, "dot"))
    known = any(np.isfinite(values).any() for values in errors.values())
    return theme.figure(
        traces,
        "Lines: squared output error of one expert against the bit-width, beside the median of its layer.",
        "" if known else "No token reached this expert, so its error was not measured.",
        title={"text": "Sensitivity by width (dotted: median of the layer)"},
        height=270,
        margin={"l": 60, "r": 16, "t": 64, "b": 42},
        xaxis={"title": {"text": "bits"}, "tickvals": list(bits), "showgrid": False},
        yaxis=theme.log_axis(np.stack([*errors.values(), *median.values()]), "mean squared error"),
    )


def _line(bits: Sequence[int], values: np.ndarray, colour: str, name: str, width: float, dash: str) -> go.Scatter:
    line = {"color": colour, "width": width, "dash": dash}
    return go.Scatter(
        x=list(bits),
        y=np.asarray(values, float),
        mode="lines+markers",
        line=line,
        marker={"size": 7 if dash == "solid" else 3},
        name=name,
        showlegend=dash == "solid",
        hovertemplate=f"{name}<br>%{{x}} bits: %{{y:.3g}}<extra></extra>",
    )
