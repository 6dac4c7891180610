"""Numbers that others report, drawn so that nobody takes them for a measurement made here."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from dashboard.charts import theme


def reported_bars(rows: Sequence[tuple[str, float]], original: tuple[str, float], source: str) -> go.Figure:
    """Open dots at reported accuracies in %, with the original as a line: (name, value) each. No bars: the axis does
    not begin at 0, and lengths would be compared."""
    names, values = [name for name, _ in rows], [value for _, value in rows]
    dots = go.Scatter(
        y=names,
        x=values,
        mode="markers+text",
        marker={"color": theme.QUIET, "symbol": "circle-open", "size": 11, "line": {"width": 2}},
        text=[f"  {value:.2f}" for value in values],
        textposition="middle right",
        cliponaxis=False,
        hovertemplate=f"%{{y}}: %{{x:.2f}} %, as {source} reports<extra></extra>",
    )
    mark = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": original[1], "x1": original[1]}
    low = min(values) - 1.5
    best = max(rows, key=lambda row: row[1])
    return theme.figure(
        [dots],
        f"Open dots: accuracy of quantized models as {source} reports, beside the original.",
        f"Reported by {source}: {best[0]} {best[1]:.2f} %, the original {original[1]:.2f} % (dotted line).",
        title={"text": f"Reported by {source}, not measured here"},
        height=90 + 36 * len(rows),
        margin={"l": 20 + 7 * max(map(len, names)), "r": 40, "t": 40, "b": 44},
        showlegend=False,
        shapes=[mark | {"line": {"color": theme.QUIET, "width": 1.5, "dash": "dot"}}],
        xaxis={
            "range": [low, original[1] + 1.5],
            "zeroline": False,
            "title": {"text": "mean accuracy over ten benchmarks, %"},
        },
        yaxis={"autorange": "reversed", "ticklabelstandoff": 6, "showgrid": False},
    )
