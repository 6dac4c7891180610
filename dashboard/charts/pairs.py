"""The other experts of a layer beside one of them: whose router rows are like its own, and who shares its tokens."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from dashboard.charts import theme
from mode_core.modalities import KEY_TOKENS, TEXT_TOKENS

MOST = 12  # experts that are named
HEIGHT = 340


def alike_dots(cosines: np.ndarray, expert: int) -> go.Figure:
    """The `MOST` experts most like one of them: `cosines` `[E]` of its router row with every one's."""
    order = _others(cosines, expert)[:MOST]
    if not order.size:
        return theme.empty("There is no other expert whose row can be compared.", "Most alike by the router", HEIGHT)
    values = cosines[order]
    dots = go.Scatter(
        x=values,
        y=[f"expert {other}" for other in order],
        mode="markers",
        marker={"size": 9, "color": theme.KIND_COLOURS[TEXT_TOKENS]},
        hovertemplate="%{y}: cosine %{x:.2f}<extra></extra>",
    )
    return theme.figure(
        [dots],
        f"Dots: cosine of the router's row of expert {expert} with those of the experts most like it.",
        f"Most alike: expert {order[0]}, cosine {values[0]:.2f} (1: wants the same tokens, 0: unrelated).",
        title={"text": f"Most alike to expert {expert}, by the router"},
        height=HEIGHT,
        margin={"l": 84, "r": 16, "t": 40, "b": 44},
        showlegend=False,
        xaxis={"range": [min(-0.05, float(values[-1]) - 0.05), 1.02], "title": {"text": "cosine of the router's rows"}},
        yaxis={"autorange": "reversed", "showgrid": False, "type": "category"},
    )


def together_dots(both: np.ndarray, tokens: int, expert: int) -> go.Figure:
    """How often other experts are used for one expert's tokens, beside how often for all: `both` `[E, E]` counts.

    Above the dotted line an expert is used for these tokens more often than for others.
    """
    own, title = int(both[expert, expert]), f"Used for the tokens of expert {expert}"
    order = _others(both[expert].astype(float), expert)
    if not own or not order.size:
        return theme.empty("None of the kept tokens was sent to this expert.", title, HEIGHT)
    every, here = 100 * np.diagonal(both)[order] / tokens, 100 * both[expert, order] / own
    named = [f" {other}" if place < 5 and here[place] > 0 else "" for place, other in enumerate(order)]
    dots = go.Scatter(
        x=every,
        y=here,
        mode="markers+text",
        text=named,
        textposition="middle right",
        textfont={"size": 11},
        cliponaxis=False,
        marker={"size": 8, "color": theme.KIND_COLOURS[KEY_TOKENS]},
        customdata=np.stack([order, both[expert, order]], axis=-1),
        hovertemplate="expert %{customdata[0]}: %{customdata[1]} tokens in common, %{y:.0f} % of these<br>"
        "%{x:.0f} % of all tokens<extra></extra>",
    )
    most = 1.08 * max(float(every.max()), float(here.max()))
    line = {"type": "line", "x0": 0, "y0": 0, "x1": most, "y1": most}
    return theme.figure(
        [dots],
        f"Dots: how often every other expert is used for the tokens of expert {expert}, against all tokens.",
        f"Of {own:,} kept tokens of this expert {both[expert, order[0]]:,} ({here[0]:.0f} %) went to expert {order[0]} "
        f"too, which takes {every[0]:.0f} % of all {tokens:,} (dotted: as often as for all).",
        title={"text": title},
        height=HEIGHT,
        margin={"l": 56, "r": 30, "t": 40, "b": 44},
        showlegend=False,
        shapes=[line | {"line": {"color": theme.QUIET, "width": 1.5, "dash": "dot"}}],
        xaxis={"range": [0, most], "title": {"text": "% of all kept tokens"}, "showgrid": False},
        yaxis={"range": [0, most], "title": {"text": "% of this expert's tokens"}},
    )


def _others(values: np.ndarray, expert: int) -> np.ndarray:
    """The other experts whose value is known, the largest first."""
    order = np.argsort(-values, kind="stable")
    return order[(order != expert) & np.isfinite(values[order])]
