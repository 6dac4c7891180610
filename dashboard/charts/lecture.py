"""Figures for a lecture hall: the same, with letters that are read from the last row, as tall as the window allows."""

from __future__ import annotations

import plotly.graph_objects as go

LETTERS = 18  # px, the least
HEADING = 21
GROWN = 1.4  # margins, in which the letters stand
LEAST, MOST, RESERVE = 380, 900, 330  # pixels: of the figure, and of the window for what stands around it


def for_a_hall(figure: go.Figure) -> go.Figure:
    """The figure itself, no letter of it below `LETTERS` (in the browser they grow with those of the page); a picture
    keeps its height, all else takes the window's."""
    plain, layout = {"size": LETTERS}, figure.layout
    layout.update(font=plain, title={"font": {"size": HEADING}}, hoverlabel={"font": plain}, legend={"font": plain})
    figure.update_xaxes(tickfont=plain, title={"font": plain})
    figure.update_yaxes(tickfont=plain, title={"font": plain})
    figure.update_annotations(font=plain)
    figure.for_each_trace(lambda trace: trace.update(textfont=plain), {"type": "scatter"})
    if layout.margin:
        layout.margin = {side: round(GROWN * width) for side, width in layout.margin.to_plotly_json().items()}
    window = {} if layout.images else {"tall": [LEAST, MOST], "reserve": RESERVE}
    layout.meta = layout.meta | {"letters": LETTERS} | window
    return figure
