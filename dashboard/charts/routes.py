"""The path of one token through all layers, and layers × tokens of a whole sample."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from dashboard.charts import theme
from dashboard.charts.grids import Axes
from dashboard.charts.panels import crosshair
from dashboard.words.plain import plain_label
from mode_core.modalities import TEXT_TOKENS
from mode_core.runs.token_routes import TokenRoutes

TITLES = {"entropy": "Router entropy, bits", "parted": "Experts that only the original chose"}
FEWEST, PER_ROW, MOST = 220, 9, 620  # pixels
MOST_TICKS = 70  # words under the strip
PARTED = "#cc79a7"


def token_name(routes: TokenRoutes, token: int) -> str:
    """“colour” (token 12), or vision token 7 (token 9): counted among the sample's own."""
    if routes.vision[token]:
        return f"vision token {int(routes.vision[:token].sum())} (token {token})"
    return f"“{routes.words[token].strip() or '␣'}” (token {token})"


def token_path(
    axes: Axes, routes: TokenRoutes, token: int, at: tuple[int, int], other: TokenRoutes | None = None
) -> go.Figure:
    """Experts across, layers down: a dot for every expert that the token was sent to, as large and dark as its routing
    weight; a line through the heaviest; at the right the router's entropy. `at`: (bank row, expert) that is ringed;
    `other`: the same sample's routes in another model, crosses where it chose an expert that this one did not.
    """
    order = np.arange(len(axes.names))
    heaviest, known = routes.experts[:, token, 0], routes.weights[:, token, 0] > 0
    traces: list = [
        {"type": "scatter", "x": np.where(known, heaviest, np.nan), "y": order, "mode": "lines", "hoverinfo": "skip",
         "name": "heaviest expert", "line": {"color": theme.QUIET, "width": 1.5}, "connectgaps": False},
        _dots(axes, *_chosen(routes, token)),
    ]  # fmt: skip
    if other is not None:
        traces.append(_crosses(axes, routes, other, token))
    ring = {"symbol": "circle-open", "size": 21, "color": theme.ACCENT, "line": {"width": 2.5}}
    entropy = routes.entropy[:, token].astype(np.float32)
    traces += [
        {"type": "scatter", "x": [at[1]], "y": [at[0]], "mode": "markers", "marker": ring, "hoverinfo": "skip",
         "name": "chosen expert"},
        {"type": "scatter", "x": entropy, "y": order, "mode": "lines+markers", "xaxis": "x2", "name": "router entropy",
         "line": {"color": theme.KIND_COLOURS[TEXT_TOKENS]}, "marker": {"size": 4}, "showlegend": False,
         "hovertemplate": "layer %{text}<br>router entropy %{x:.2f} bits<extra></extra>", "text": axes.ticks},
    ]  # fmt: skip
    height = int(np.clip(PER_ROW * len(order), FEWEST, MOST)) + 96
    tall = {**axes.y_axis(title={"text": "layer"}), "type": "linear"}
    return theme.figure(
        traces,
        "Dots: experts that the chosen token was sent to, experts across, layers down, darker and larger with their "
        "routing weight; beside them the router's entropy in every layer.",
        _summary(axes, routes, token, other),
        title={"text": f"Path of {plain_label(token_name(routes, token))}"},
        height=height,
        margin={"l": 46, "r": 14, "t": 62, "b": 44},
        xaxis=axes.x_axis(domain=[0, 0.78], title={"text": "expert"}, zeroline=False),
        xaxis2={"domain": [0.82, 1], "anchor": "y", "range": [0, float(np.log2(max(axes.experts)))],
                "title": {"text": "entropy, bits"}, "nticks": 4},
        yaxis=tall,
        legend={"x": 1, "xanchor": "right"},
    )  # fmt: skip


def _chosen(routes: TokenRoutes, token: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bank row, id and weight of every expert that one token was sent to, `[n]` each."""
    weights = routes.weights[:, token].astype(np.float32)
    rows, places = np.nonzero(weights)
    return rows, routes.experts[rows, token, places].astype(int), weights[rows, places]


def _dots(axes: Axes, rows: np.ndarray, experts: np.ndarray, weights: np.ndarray, **more: object) -> dict:
    """A marker for each expert, which a click names: customdata (bank row, expert, routing weight). A plain record,
    since a click on a token waits for it."""
    marker = {"size": 6 + 11 * weights, "color": weights, "cmin": 0, "cmax": 1, "colorscale": theme.SHARE_SCALE}
    marker |= {"reversescale": True, "line": {"width": 0.5, "color": theme.QUIET}, "opacity": 1}
    hover = "layer %{text}, expert %{x}<br>routing weight %{customdata[2]:.3f}<extra>%{fullData.name}</extra>"
    return {
        "type": "scatter",
        "x": experts,
        "y": rows,
        "mode": "markers",
        "text": np.array(axes.ticks)[rows].tolist(),
        "customdata": np.stack([rows, experts, weights], axis=1, dtype=np.float32),
        "hovertemplate": hover,
        "name": "sent here (large, dark: heavily)",
        "marker": marker,
        **more,
    }


def _crosses(axes: Axes, routes: TokenRoutes, other: TokenRoutes, token: int) -> dict:
    rows, experts, weights = _chosen(other, token)
    new = (experts[:, None] != routes.experts[rows, token]).all(axis=1)
    marker = {"symbol": "x", "size": 9, "color": PARTED}
    return _dots(axes, rows[new], experts[new], weights[new], name="only quantized", marker=marker)


def _summary(axes: Axes, routes: TokenRoutes, token: int, other: TokenRoutes | None) -> str:
    entropy, most = routes.entropy[:, token].astype(np.float64), float(np.log2(max(axes.experts)))
    known = np.isfinite(entropy)
    told = (
        f"Router entropy {np.nanmin(entropy):.1f} to {np.nanmax(entropy):.1f} of at most {most:.1f} bits."
        if known.any()
        else "The router of this family does not tell its scores, so its entropy is not known."
    )
    if other is None:
        return told
    pairs = zip(routes.experts[:, token].tolist(), other.experts[:, token].tolist(), strict=True)
    layers = [tick for tick, (ours, theirs) in zip(axes.ticks, pairs, strict=True) if {*ours} != {*theirs}]
    where = f"parts in layer{'s' * (len(layers) > 1)} {', '.join(layers)}" if layers else "parts nowhere"
    return f"{told} Quantized, the path {where}."


def token_strip(axes: Axes, routes: TokenRoutes, at: tuple[int, int], parted: np.ndarray | None = None) -> go.Figure:
    """Layers down, tokens across, crosshair at `at` (bank row, token): the router's entropy, or with `parted` `[L, T]`
    how many of the token's experts another model did not choose."""
    labels = [f"{number} · {plain_label(word.strip() or '▦')}" for number, word in enumerate(routes.words)]
    values, title = (routes.entropy if parted is None else parted).astype(np.float32), TITLES["entropy"]
    title = title if parted is None else TITLES["parted"]
    k, height = routes.experts.shape[2], int(np.clip(8 * len(axes.names), 130, 420))
    unit = " bits" if parted is None else f" of {k}"
    heat = {
        "type": "heatmap",
        "z": values,
        "x": labels,
        "y": axes.labels,
        "customdata": np.broadcast_to(np.arange(len(labels), dtype=np.uint16), values.shape),
        "zmin": 0,
        "zmax": float(np.log2(max(routes.sizes))) if parted is None else k,
        "name": title,
        "colorscale": theme.ERROR_SCALE,
        "colorbar": {"title": {"text": unit.strip(), "side": "top"}, "xpad": 6},
        "hoverongaps": False,
        "hovertemplate": f"%{{y}}<br>%{{x}}<br>%{{z:.2~f}}{unit}<extra></extra>",
        "meta": unit.strip(),
    }
    ticks = _ticks(routes)
    return theme.figure(
        [heat],
        f"Map, tokens of the sample across, layers down: {title.lower()}.",
        _told_of(routes, values, parted is not None),
        title={"text": f"{title}, by layer and token"},
        height=height + 120,
        margin={"l": 46, "r": 70, "t": 40, "b": 80},
        xaxis={"type": "category", "range": [-0.5, len(labels) - 0.5], "showgrid": False, "tickvals": ticks,
               "ticktext": [plain_label(routes.words[one].strip()[:12] or "▦") for one in ticks], "tickangle": -90,
               "tickfont": {"size": 10}},
        yaxis=axes.y_axis(title={"text": "layer"}),
        shapes=crosshair(at, 1),
        meta={"at": list(at), "experts": [len(labels)] * len(axes.names), "across": "token"},
    )  # fmt: skip


def _ticks(routes: TokenRoutes) -> list[int]:
    """Tokens that are named under the strip: text, and of every run of vision tokens the middle one; none too close."""
    edges = np.flatnonzero(np.diff(np.r_[0, routes.vision.astype(np.int8), 0]))
    wanted = [(begin + end) // 2 for begin, end in zip(edges[::2], edges[1::2], strict=True)]
    apart, kept = len(routes.words) / MOST_TICKS, []
    for token in sorted([*wanted, *np.flatnonzero(~routes.vision)]):
        if not kept or token - kept[-1] >= apart:
            kept.append(int(token))
    return kept


def _told_of(routes: TokenRoutes, values: np.ndarray, parted: bool) -> str:
    if parted:
        used = (routes.weights > 0).any(axis=2)
        return f"Paths part in {100 * (values[used] > 0).mean():.1f} % of the sample's routings (a token in a layer)."
    kinds = {"text": ~routes.vision, "vision": routes.vision}
    means = [f"{name} tokens {np.nanmean(values[:, which]):.2f}" for name, which in kinds.items()
             if which.any() and np.isfinite(values[:, which]).any()]  # fmt: skip
    return f"Mean router entropy in bits: {', '.join(means)}." if means else "Router entropy is not known here."
