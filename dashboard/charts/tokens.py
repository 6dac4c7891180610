"""Pictures with the importance of their vision tokens laid over them, and how far choices of key tokens overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from dashboard.charts import theme
from dashboard.charts.panels import panel_title, suffix
from dashboard.words.plain import plain_label
from mode_core.modalities import KEY_TOKENS, REDUNDANT_TOKENS

GAP, TOP = 34, 34
TALLEST = 430  # pixels of one picture
_VEIL = [[0.0, "rgba(0,0,0,0.72)"], [0.5, "rgba(20,30,60,0.45)"], [1.0, "rgba(255,255,255,0.0)"]]


@dataclass(frozen=True)
class Overlay:
    """One panel: a title, the importance of the picture's N tokens, their ranks, and which are key (`[N]` each)."""

    title: str
    scores: np.ndarray
    ranks: np.ndarray
    key: np.ndarray


def token_overlays(
    picture: str,
    grid: tuple[int, int],
    overlays: Sequence[Overlay],
    columns: int = 1,
    width: int = 560,
    title: str = "",
    shape: float | None = None,
    tallest: int = TALLEST,
    kind: str = "vision",
) -> go.Figure:
    """The picture once a panel, dimmed where a token matters little, key tokens outlined in orange.

    Args:
        picture: its data URI.
        grid: (rows, columns) of tokens, which cover the picture evenly; N = rows · columns.
        columns: panels beside each other.
        width: pixels of the whole figure, from which its height follows; it is fitted to the window when drawn.
        shape: height ÷ width of the picture; None takes the grid's.
        tallest: pixels that all rows of panels may take together.
        kind: of token; "audio" where the picture is a sound's spectrogram.

    Raises:
        ValueError: a panel whose number of tokens is not that of the grid.
    """
    if wrong := [one.title for one in overlays if one.scores.size != grid[0] * grid[1]]:
        raise ValueError(f"The grid {grid} holds {grid[0] * grid[1]} tokens; {', '.join(wrong)} has another number.")
    columns = min(columns, max(1, len(overlays)))
    rows = -(-len(overlays) // columns)
    each = width / columns - 12
    tall = min((tallest - (rows - 1) * GAP) / rows, each * (grid[0] / grid[1] if shape is None else shape))
    inner = rows * tall + (rows - 1) * GAP
    layout: dict = {"height": round(inner + TOP + 8), "margin": {"l": 4, "r": 4, "t": TOP, "b": 8}}
    layout |= {"images": [], "annotations": [], "showlegend": False}
    traces: list = []
    for place, overlay in enumerate(overlays):
        row, column = divmod(place, columns)
        top = 1 - row * (tall + GAP) / inner
        x = [column / columns, (column + 1) / columns - (12 / width if columns > 1 else 0)]
        _axes(layout, place, x, [max(0.0, top - tall / inner), top], grid, shape)
        layout["images"].append(_picture(picture, place, grid))
        layout["annotations"].append(panel_title(plain_label(overlay.title), top) | {"x": x[0], "font": {"size": 12}})
        traces += [_veil(overlay, grid, place), *_outline(overlay.key.reshape(grid), place)]
    kept = [f"{int(one.key.sum())} of {one.key.size}" + f" ({one.title})" * bool(one.title) for one in overlays]
    shown = "spectrogram, dimmed where an audio" if kind == "audio" else "picture, dimmed where a vision"
    return theme.figure(
        traces,
        f"The {shown} token matters little, with the key tokens outlined.",
        f"Key {kind} tokens, outlined: {', '.join(kept)}.",
        title={"text": title},
        **layout,
    )


def _axes(layout: dict, place: int, x: list[float], y: list[float], grid: tuple[int, int], shape: float | None) -> None:
    """Axes in tokens that keep the picture's proportions in whatever room the window leaves."""
    end, plain = suffix(place), {"visible": False, "fixedrange": True, "constrain": "domain"}
    upright = 1.0 if shape is None else shape * grid[1] / grid[0]
    tied = {"scaleanchor": f"x{end}", "scaleratio": upright, "constraintoward": "top"}
    layout[f"xaxis{end}"] = plain | {"domain": x, "range": [0, grid[1]], "anchor": f"y{end}", "constraintoward": "left"}
    layout[f"yaxis{end}"] = plain | {"domain": y, "range": [grid[0], 0], "anchor": f"x{end}", **tied}


def _picture(picture: str, place: int, grid: tuple[int, int]) -> dict:
    corner = {"x": 0, "y": 0, "sizex": grid[1], "sizey": grid[0], "sizing": "stretch", "layer": "below"}
    return {"source": picture, "xref": f"x{suffix(place)}", "yref": f"y{suffix(place)}", **corner}


def _veil(overlay: Overlay, grid: tuple[int, int], place: int) -> go.Heatmap:
    """Clear over the most important token, dark over the least: by rank, since the scale of scores is the signal's."""
    count = overlay.ranks.size
    clear = 1 - overlay.ranks.reshape(grid) / max(count - 1, 1)
    return go.Heatmap(
        z=clear.astype(np.float32),
        x0=0.5,
        dx=1,
        y0=0.5,
        dy=1,
        text=(overlay.ranks.reshape(grid) + 1).astype(np.float32),
        customdata=overlay.scores.reshape(grid).astype(np.float32),
        hovertext=np.where(overlay.key.reshape(grid), "key token", "redundant token"),
        hovertemplate=f"%{{hovertext}}<br>rank %{{text:.0f}} of {count}<br>score %{{customdata:.3g}}<extra></extra>",
        zmin=0,
        zmax=1,
        colorscale=_VEIL,
        showscale=False,
        xaxis=f"x{suffix(place)}",
        yaxis=f"y{suffix(place)}",
    )


def outline(key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Edges between key tokens and the rest: bool `[R, C]` → x and y of line segments, a NaN after each."""
    padded = np.pad(key, 1)
    rows, columns = np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1])  # an edge above the cell
    across = np.stack([columns, columns + 1, np.full_like(columns, -1)]), np.stack([rows, rows, rows])
    down_rows, down_columns = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1])  # an edge on its left
    down = (
        np.stack([down_columns, down_columns, np.full_like(down_columns, -1)]),
        np.stack([down_rows, down_rows + 1, down_rows]),
    )
    x = np.concatenate([across[0].T.ravel(), down[0].T.ravel()]).astype(float)
    y = np.concatenate([across[1].T.ravel(), down[1].T.ravel()]).astype(float)
    return np.where(x < 0, np.nan, x), np.where(x < 0, np.nan, y)


def _outline(key: np.ndarray, place: int) -> list[go.Scatter]:
    """White beneath orange, so that it is seen on any picture."""
    x, y = outline(key)
    common = {"x": x, "y": y, "mode": "lines", "hoverinfo": "skip"}
    axes = {"xaxis": f"x{suffix(place)}", "yaxis": f"y{suffix(place)}"}
    lines = ({"color": "#ffffff", "width": 4.5}, {"color": theme.ACCENT, "width": 2.5})
    return [go.Scatter(line=line, **common, **axes) for line in lines]


def overlap_map(names: Sequence[str], overlap: np.ndarray, title: str, what: str) -> go.Figure:
    """Jaccard overlap of every two choices of key tokens, `[K, K]` from 0 to 1; `what` names the rows in hover text."""
    names, few = [plain_label(name) for name in names], len(names) <= 12
    pairs = overlap[~np.eye(len(names), dtype=bool)]
    told = (
        f"Two {what}s share {100 * np.nanmean(pairs):.0f} % of their key tokens on average, "
        f"at least {100 * np.nanmin(pairs):.0f} % (of what either of them keeps)."
        if np.isfinite(pairs).any()
        else f"There is only one {what} to compare."
    )
    heat = go.Heatmap(
        z=overlap.astype(np.float32),
        x=names,
        y=names,
        zmin=0,
        zmax=1,
        colorscale=theme.SHARE_SCALE,
        colorbar={"title": {"text": "overlap", "side": "top"}, "x": 1.0, "xanchor": "left", "xpad": 8},
        texttemplate="%{z:.2f}" if few else None,
        textfont={"size": 11},
        hovertemplate=f"{what} %{{y}} and {what} %{{x}}<br>overlap %{{z:.2f}}<extra></extra>",
    )
    longest = max(map(len, names), default=1)
    axis = {"showgrid": False, "type": "category", "nticks": 13}
    return theme.figure(
        [heat],
        f"Square map of the Jaccard overlap of key tokens between every two {what}s, from 0 to 1.",
        told,
        title={"text": title},
        height=320,
        margin={"l": 24 + 7 * min(longest, 24), "r": 74, "t": 40, "b": 46 if longest < 8 else 84},
        xaxis=axis | {"title": {"text": what if longest < 8 else ""}},
        yaxis=axis | {"autorange": "reversed", "title": {"text": what if longest < 8 else ""}},
    )


def strip_of_scores(ranks: np.ndarray, scores: np.ndarray, key: np.ndarray) -> go.Figure:
    """Importance of every token in order of rank, `[N]` each; for pictures whose tokens have no known place."""
    order = np.argsort(ranks)
    colours = np.where(key[order], theme.KIND_COLOURS[KEY_TOKENS], theme.KIND_COLOURS[REDUNDANT_TOKENS])
    bars = go.Bar(
        x=ranks[order] + 1,
        y=scores[order],
        marker={"color": colours, "line": {"width": 0}},
        hovertemplate="rank %{x}<br>score %{y:.3g}<extra></extra>",
    )
    return theme.figure(
        [bars],
        "Bars: importance of each vision token, most important first; key tokens in green.",
        f"{int(key.sum())} of {key.size} vision tokens are key.",
        title={"text": "Importance of the vision tokens, by rank (key ones green)"},
        height=320,
        margin={"l": 64, "r": 16, "t": 40, "b": 44},
        bargap=0.05,
        xaxis={"title": {"text": "rank"}, "showgrid": False},
        yaxis={"title": {"text": "score of the signal"}},
    )
