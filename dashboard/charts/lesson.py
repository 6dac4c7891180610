"""The pictures of the lessons: one bank, one idea each, first as a question and then as the answer.

`shown=False` draws what a person sees before predicting: the frame, without what would give the answer away.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from dashboard.charts import theme
from mode_core.modalities import KEY_TOKENS, VISION_TOKENS

HEIGHT = 400
MARGIN = {"l": 58, "r": 20, "t": 44, "b": 46}
BUSY, REST, LOST = "#0072b2", "#b9bdc4", "#d55e00"


def router_load(shares: np.ndarray, busiest: int, shown: bool = True) -> go.Figure:
    """Share of the work of each expert of one bank, busiest first: `[E]`, sums to 1; the `busiest` do half of it."""
    order = np.argsort(-shares, kind="stable")
    even = 100 / shares.size
    values = 100 * shares[order] if shown else np.full(shares.size, even)
    colours = np.where(np.arange(shares.size) < busiest, BUSY, REST) if shown else REST
    bars = go.Bar(
        x=np.arange(1, shares.size + 1),
        y=values,
        customdata=order,
        marker={"color": colours, "line": {"width": 0}},
        hovertemplate="expert %{customdata}<br>%{y:.2f} % of the work<extra></extra>" if shown else None,
        hoverinfo=None if shown else "skip",
    )
    line = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": even, "y1": even}
    told = f"The {busiest} busiest of {shares.size} experts (blue) do half of the work." if shown else ""
    return theme.figure(
        [bars],
        "Bars: share of the tokens' visits that each expert of one layer gets, busiest first.",
        told,
        title={"text": "Who does the work (dotted: if all did the same)" if shown else "If all experts did the same …"},
        height=HEIGHT,
        margin=MARGIN,
        bargap=0.12,
        shapes=[line | {"line": {"color": theme.QUIET, "width": 1.5, "dash": "dot"}}],
        xaxis={"title": {"text": "experts, busiest first"}, "showgrid": False},
        yaxis={"title": {"text": "share of the work, %"}, "range": [0, 104 * float(shares.max())], "nticks": 6},
    )


def rank_slopes(text: np.ndarray, every: np.ndarray, top: int, shown: bool = True, letters: float = 10.5) -> go.Figure:
    """Ranks of the `top` busiest text experts: for text on the left, for all tokens counted together on the right.

    `text`, `every` are ranks `[E]`, 1 = busiest. Orange: those that fall into the lower half. `letters`: pixels of the
    names beside the lines, which do not cover each other.
    """
    experts = np.argsort(text, kind="stable")[:top]
    half = text.size / 2
    traces = []
    for expert in experts:
        low = every[expert] > half
        colour = LOST if low and shown else BUSY
        traces.append(
            go.Scatter(
                x=[0, 1] if shown else [0],
                y=[text[expert], every[expert]] if shown else [text[expert]],
                mode="lines+markers",
                line={"color": colour, "width": 3 if low else 2},
                marker={"size": 9, "symbol": "square" if low and shown else "circle"},
                hovertemplate=f"<b>expert {expert}</b><br>rank %{{y:.0f}} of {text.size}<extra></extra>",
            )
        )
    fallen = int((every[experts] > half).sum())
    band = {"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "y0": half + 0.5, "y1": text.size + 2, "layer": "below"}
    floor, ceiling = float(np.log10(text.size + 2)), float(np.log10(0.85))
    gap = 1.2 * letters * (floor - ceiling) / (HEIGHT - 1.4 * (MARGIN["t"] + MARGIN["b"]))
    look = {"mode": "text", "textfont": {"size": letters}, "hoverinfo": "skip"}
    traces.append(_names([f"expert {expert}" for expert in experts], text[experts], gap, floor, "left", look))
    if shown:
        places = np.sort(every[experts])
        traces.append(_names([f"rank {rank:.0f}" for rank in places], places, gap, floor, "right", look))
    note = {"x": 0.5, "y": floor, "text": "lower half: few bits", "showarrow": False, "yanchor": "bottom"}
    return theme.figure(
        traces,
        "Lines from the rank of each of the busiest text experts to its rank among all tokens counted together.",
        f"{fallen} of the {len(experts)} busiest experts for text fall into the lower half." if shown else "",
        title={"text": "Rank for text, and rank when all tokens are counted"},
        height=HEIGHT,
        margin=MARGIN,
        showlegend=False,
        shapes=[band | {"fillcolor": "rgba(213,94,0,0.12)", "line": {"width": 0}}],
        annotations=[note],
        xaxis={
            "range": [-0.35, 1.25],
            "tickvals": [0, 1],
            "ticktext": ["by text tokens", "by all tokens"],
            "showgrid": False,
            "zeroline": False,
            "tickfont": {"size": 13},
        },
        yaxis={
            "type": "log",  # the busiest few matter most, and need room for their names
            "range": [floor, ceiling],
            "tickvals": [2**power for power in range(12) if 2**power <= text.size],
            "title": {"text": "rank, 1 = busiest"},
            "showgrid": False,
            "zeroline": False,
        },
    )


def _names(words: list[str], ranks: np.ndarray, gap: float, floor: float, side: str, look: dict) -> go.Scatter:
    """Names beside the ends of lines, ranks rising, apart where they would cover each other; `gap`, `floor` in
    decades."""
    places = 10 ** apart(np.log10(ranks), gap, floor - gap / 2)
    x = np.full(ranks.size, {"left": -0.03, "right": 1.03}[side])
    return go.Scatter(x=x, y=places, text=words, textposition=f"middle {side}", **look)


def apart(places: np.ndarray, gap: float, end: float) -> np.ndarray:
    """Rising places, moved so that each lies at least `gap` after the one before and the last not beyond `end`."""
    moved = places.astype(float).copy()
    for each in range(1, moved.size):
        moved[each] = max(moved[each], moved[each - 1] + gap)
    moved[-1:] = np.minimum(moved[-1:], end)
    for each in range(moved.size - 2, -1, -1):
        moved[each] = min(moved[each], moved[each + 1] - gap)
    return moved


def key_dumbbells(vision: np.ndarray, key: np.ndarray, top: int, shown: bool = True) -> go.Figure:
    """Shares of all vision tokens (◇) and of the key ones (◆) for every expert of a bank, `[E]` each, sums to 1.

    Experts in the order of all vision tokens; blue stay among the `top` busiest, orange ones leave or enter.
    """
    order = np.argsort(-vision, kind="stable")
    first, then = set(order[:top].tolist()), set(np.argsort(-key, kind="stable")[:top].tolist())
    places = np.arange(vision.size)
    moved = np.array([expert in first ^ then for expert in order])
    traces: list = []
    if shown:
        for colour, which in ((REST, ~moved), (LOST, moved)):
            x = np.repeat(places[which].astype(float), 3)
            y = np.stack(
                [100 * vision[order][which], 100 * key[order][which], np.full(which.sum(), np.nan)], -1
            ).ravel()
            traces.append(go.Scatter(x=x, y=y, mode="lines", line={"color": colour, "width": 3}, hoverinfo="skip",
                                     showlegend=False))  # fmt: skip
    kinds = (
        ((VISION_TOKENS, vision, "diamond-open"), (KEY_TOKENS, key, "diamond"))
        if shown
        else ((VISION_TOKENS, vision, "diamond-open"),)
    )
    for kind, values, symbol in kinds:
        colour = theme.KIND_COLOURS[kind]
        marker = {"symbol": symbol, "size": 10, "color": colour, "line": {"width": 1.5, "color": colour}}
        traces.append(
            go.Scatter(
                x=places,
                y=100 * values[order],
                mode="markers",
                marker=marker,
                name=theme.KIND_NAMES[kind],
                customdata=order,
                hovertemplate=f"<b>expert %{{customdata}}</b><br>%{{y:.2f}} % of {kind} tokens<extra></extra>",
            )
        )
    stay = len(first & then)
    even = 100 / vision.size
    line = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": even, "y1": even}
    return theme.figure(
        traces,
        "Pairs of diamonds: each expert's share of all vision tokens and of the key ones.",
        f"{stay} of the {top} busiest stay among the {top} busiest; who leaves or enters has an orange line."
        if shown
        else "",
        title={"text": "All vision tokens, and the key ones alone" if shown else "All vision tokens"},
        height=HEIGHT,
        margin=MARGIN | {"t": 64},
        shapes=[line | {"line": {"color": theme.QUIET, "width": 1.5, "dash": "dot"}}],
        xaxis={
            "title": {"text": "experts, busiest for all vision tokens first"},
            "showgrid": False,
            "zeroline": False,
            "tickvals": [],
        },
        yaxis={
            "title": {"text": "share, %"},
            "range": [0, 108 * float(max(vision.max(), key.max() if shown else 0))],
            "nticks": 6,
        },
    )


def error_fan(bits: Sequence[int], errors: np.ndarray, words: str, shown: bool = True) -> go.Figure:
    """Error of each expert of a bank at each width, logarithmic: `errors` `[E, B]`, NaN where none was measured.

    Thin lines: one expert each; thick: their median. Before the answer only the widest width is drawn.
    """
    order = np.argsort(bits)
    widths = np.asarray(bits)[order]
    known = errors[np.isfinite(errors).all(axis=1) & (errors > 0).all(axis=1)][:, order]
    if not len(known):
        return theme.empty("Sensitivity was not measured for these tokens in this run.", "Error by width", HEIGHT)
    typical = np.median(known, axis=0)
    none = np.full((len(known), 1), np.nan)
    x = np.tile(np.append(widths, widths[-1]), len(known)).astype(float)
    y = np.concatenate([known, none], axis=1).ravel()
    thin = go.Scatter(
        x=x, y=y, mode="lines", line={"color": REST, "width": 1}, hoverinfo="skip", name="one expert each"
    )
    thick = go.Scatter(
        x=widths if shown else widths[-1:],
        y=typical if shown else typical[-1:],
        mode="lines+markers",
        line={"color": BUSY, "width": 4},
        marker={"size": 10},
        name="median of the layer",
        hovertemplate="%{x} bits<br>median error %{y:.3g}<extra></extra>",
    )
    spread = float(known[:, 0].max() / known[:, 0].min())
    least = "1 bit" if widths[0] == 1 else f"{widths[0]} bits"
    return theme.figure(
        [thin, thick] if shown else [thick],
        "Lines: squared output error of every expert of one layer at each width, on a logarithmic scale.",
        f"At {least} the most sensitive expert errs {spread:,.0f} times as much as the least." if shown else "",
        title={"text": f"Error on {words}"},
        height=HEIGHT,
        margin=MARGIN | {"l": 66, "t": 64},
        xaxis={
            "title": {"text": "bits"},
            "tickvals": list(widths),
            "range": [widths[0] - 0.3, widths[-1] + 0.3],
            "showgrid": False,
        },
        yaxis=theme.log_axis(known, "squared error") | {"range": _decades(known)},
    )


def _decades(values: np.ndarray) -> list[float]:
    low, high = np.log10(values.min()), np.log10(values.max())
    return [float(low - 0.1), float(high + 0.15)]


def spent_bits(stake: np.ndarray, bits: np.ndarray, widths: Sequence[int], shown: bool = True) -> go.Figure:
    """What is at stake for every expert of a bank, most first, coloured by the bits it gets: `[E]` each.

    `stake` is the predicted damage that the widest width saves over the narrowest; logarithmic.
    """
    order = np.argsort(-stake, kind="stable")
    held, given = np.maximum(stake[order], 0), bits[order]
    places = np.arange(1, stake.size + 1)
    common = {"marker": {"color": REST}, "hoverinfo": "skip"}
    traces = [go.Bar(x=places, y=held, **common)]
    if shown:
        traces = [
            go.Bar(
                x=places[given == width],
                y=held[given == width],
                name=f"{width} bits",
                customdata=order[given == width],
                marker={"color": theme.width_colour(int(width)), "line": {"width": 0}},
                hovertemplate=f"<b>expert %{{customdata}}</b>: {width} bits<br>at stake %{{y:.3g}}<extra></extra>",
            )
            for width in sorted(widths)
        ]
    counts = ", ".join(f"{int((bits == width).sum())} at {width} bits" for width in sorted(widths))
    return theme.figure(
        traces,
        "Bars: predicted damage at stake for every expert of one layer, coloured by the bits that it gets.",
        f"{stake.size} experts: {counts}." if shown else "",
        title={"text": "What is at stake, and who gets the bits" if shown else "What is at stake for each expert"},
        height=HEIGHT,
        margin=MARGIN | {"l": 66, "t": 64},
        bargap=0.12,
        barmode="overlay",
        xaxis={"title": {"text": "experts, most at stake first"}, "showgrid": False},
        yaxis=theme.log_axis(held, "damage at stake (estimate)"),
    )
