"""What a card's memory is divided into, as one bar."""

from __future__ import annotations

import plotly.graph_objects as go

from dashboard.charts import theme
from dashboard.words.sizes import size_text
from mode_core.memory import Fit

_COLOURS = ("#0072b2", "#56b4e9", "#e69f00", "#a0a0a0", "rgba(128,128,128,0.18)")


def memory_bar(fit: Fit, expert_name: str = "routed experts") -> go.Figure:
    """One stacked bar in GB (10^9 bytes): experts, rest of the model, KV cache, reserve, and what stays free.

    Where it does not fit, the parts run beyond the line that marks the card's end.
    """
    parts = memory_parts(fit, expert_name)
    traces = [
        go.Bar(
            y=[""],
            x=[size / 1e9],
            orientation="h",
            name=name,
            marker={"color": colour, "line": {"width": 0}},
            hovertemplate=f"{name}: {size_text(size)}<extra></extra>",
        )
        for (name, size), colour in zip(parts.items(), _COLOURS, strict=True)
    ]
    card = fit.card / 1e9
    end = {"type": "line", "x0": card, "x1": card, "y0": -0.5, "y1": 0.5, "line": {"color": theme.ACCENT, "width": 2}}
    verdict = f"{size_text(fit.free)} stay free" if fit.free >= 0 else f"too large by {size_text(-fit.free)}"
    return theme.figure(
        traces,
        f"Stacked bar: the memory of a {card:.3g} GB card divided between experts, rest, cache and reserve.",
        f"A card of {card:.3g} GB: {verdict} (estimate; the reserve of {100 * fit.reserve / fit.card:.0f} % for "
        "drivers and activations is an assumption).",
        title={"text": f"Memory of a {card:.3g} GB card (estimate)"},
        barmode="stack",
        legend={"traceorder": "normal"},
        height=172,
        margin={"l": 10, "r": 16, "t": 72, "b": 42},
        xaxis={
            "title": {"text": "GB (10⁹ bytes)"},
            "range": [0, max(card, (fit.card - fit.free) / 1e9) * 1.02],
            "showgrid": False,
        },
        yaxis={"visible": False},
        shapes=[end],
    )


def memory_parts(fit: Fit, expert_name: str = "routed experts") -> dict[str, int]:
    """What the card's memory goes to, in bytes, in the order of the bar."""
    return {
        expert_name: fit.experts,
        "rest of the model": fit.rest,
        "KV cache": fit.cache,
        "reserve (assumed)": fit.reserve,
        "free": max(0, fit.free),
    }
