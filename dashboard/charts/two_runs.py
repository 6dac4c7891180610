"""Two allocations of one model against each other: which experts' bits differ, and where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from dashboard.charts import theme
from dashboard.charts.bits import in_window, map_height
from dashboard.charts.grids import Axes
from dashboard.charts.panels import BOTTOM, TOP
from dashboard.words.plain import plain_label
from mode_core.modalities import KEY_TOKENS, TEXT_TOKENS


def crossed(one: np.ndarray, other: np.ndarray, widths: Sequence[int]) -> np.ndarray:
    """Experts by their bits in both: int `[experts]` twice → counts `[B, B]`, rows `one`, columns `other`."""
    ordered = np.array(sorted(widths))
    places = np.searchsorted(ordered, one) * len(ordered) + np.searchsorted(ordered, other)
    return np.bincount(places, minlength=len(ordered) ** 2).reshape(len(ordered), len(ordered))


def bits_difference(
    axes: Axes, one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray], names: tuple[str, str]
) -> go.Figure:
    """Map of bits of `one` minus bits of `other`, layer × expert: bank → int `[E]` each; 0 is white on every map, and
    either end as far from it as the other."""
    first, second = map(plain_label, names)
    mine, its = axes.stack(one), axes.stack(other)
    apart = mine - its
    most = max(1, int(np.nanmax(np.abs(apart))))
    more, fewer = int((apart > 0).sum()), int((apart < 0).sum())
    ticks = list(range(-most, most + 1))
    heat = go.Heatmap(
        z=apart.astype(np.float32),
        y=axes.labels,
        customdata=np.stack([mine, its], axis=-1),
        zmin=-most,
        zmax=most,
        colorscale=theme.DIFFERENCE_SCALE,
        colorbar={"title": {"text": "bits", "side": "top"}, "tickvals": ticks, "x": 1.0, "xanchor": "left", "xpad": 8}
        | {"ticktext": [f"{tick:+d}" if tick else "0" for tick in ticks]},
        hoverongaps=False,
        hovertemplate=f"<b>expert %{{x}}</b> · %{{y}}<br>{first}: %{{customdata[0]:.0f}} bits<br>"
        f"{second}: %{{customdata[1]:.0f}} bits<extra></extra>",
    )
    return theme.figure(
        [heat],
        f"Map: bits of every expert in {first} minus those in {second}; red has more in the first, blue in the second.",
        f"Of {int(np.isfinite(apart).sum()):,} experts {more:,} have more bits in {first} and {fewer:,} in {second}.",
        title={"text": f"Bits: {first} minus {second}"},
        height=map_height(axes),
        margin={"l": 44, "r": 74, "t": TOP, "b": BOTTOM},
        xaxis=axes.x_axis(title={"text": "expert"}),
        yaxis=axes.y_axis(title={"text": "layer"}),
        meta=in_window(axes),
    )


def bits_crossed(counts: np.ndarray, widths: Sequence[int], names: tuple[str, str]) -> go.Figure:
    """How many experts have which bits in the one and in the other: counts `[B, B]`; the diagonal agrees."""
    labels = [f"{width} bits" for width in sorted(widths)]
    first, second = map(plain_label, names)
    total, same = int(counts.sum()), int(np.trace(counts))
    share = counts / max(total, 1)
    heat = go.Heatmap(
        z=(100 * share).astype(np.float32),
        x=labels,
        y=labels,
        text=counts,
        texttemplate="%{text:,}<br>%{z:.0f} %",
        zmin=0,
        colorscale=theme.SHARE_SCALE,
        colorbar={"title": {"text": "% of all", "side": "top"}, "x": 1.0, "xanchor": "left", "xpad": 8},
        hovertemplate=f"{first}: %{{y}}<br>{second}: %{{x}}<br>%{{text:,}} experts (%{{z:.1f}} %)<extra></extra>",
    )
    axis = {"showgrid": False, "type": "category"}
    return theme.figure(
        [heat],
        f"Square map: experts by their bits with {names[0]} and with {names[1]}; the diagonal agrees.",
        f"{same:,} of {total:,} experts ({100 * same / max(total, 1):.0f} %) get the same bits from both.",
        title={"text": "Experts by their bits in both"},
        height=320,
        margin={"l": 74, "r": 74, "t": 40, "b": 46},
        xaxis=axis | {"title": {"text": second}},
        yaxis=axis | {"title": {"text": first}, "autorange": "reversed"},
    )


def changed_by_layer(axes: Axes, one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> go.Figure:
    """Share of each layer's experts whose bits differ between the two; bank → int `[E]` each."""
    share = np.array([100 * np.mean(one[name] != other[name]) for name in axes.names])
    counts = [int((one[name] != other[name]).sum()) for name in axes.names]
    bars = go.Bar(
        x=axes.ticks,
        y=share,
        customdata=counts,
        marker={"color": theme.KIND_COLOURS[TEXT_TOKENS]},
        hovertemplate="layer %{x}<br>%{customdata} experts (%{y:.0f} %) have other bits<extra></extra>",
    )
    most = int(np.argmax(share))
    told = f"Most in layer {axes.ticks[most]}: {share[most]:.0f} % of its experts." if share.any() else "None differs."
    return theme.figure(
        [bars],
        "Bars: share of the experts of each layer whose bits differ between the two.",
        told,
        title={"text": "Experts with other bits, by layer"},
        height=320,
        margin={"l": 58, "r": 16, "t": 40, "b": 44},
        bargap=0.25,
        xaxis={"title": {"text": "layer"}, "type": "category", "showgrid": False, "nticks": 13},
        yaxis={"title": {"text": "% of the layer's experts"}, "rangemode": "tozero", "nticks": 6},
    )


def order_agreement(ticks: Sequence[str], agreement: Mapping[str, np.ndarray]) -> go.Figure:
    """Rank correlation of expert frequencies between the two, by layer and kind of token: name → `[L]`."""
    looks = ((TEXT_TOKENS, "circle"), (KEY_TOKENS, "diamond"))
    traces = [
        go.Scatter(
            x=list(ticks),
            y=np.asarray(values, float),
            mode="lines+markers",
            name=name,
            line={"color": theme.KIND_COLOURS[kind], "width": 1.5},
            marker={"symbol": symbol, "size": 7},
            hovertemplate=f"layer %{{x}}<br>{name}: %{{y:.3f}}<extra></extra>",
        )
        for (name, values), (kind, symbol) in zip(agreement.items(), looks, strict=False)
    ]
    known = {name: float(np.nanmean(values)) for name, values in agreement.items() if np.isfinite(values).any()}
    return theme.figure(
        traces,
        "Lines: rank correlation of how often experts are chosen, between the two, by layer.",
        "Mean over layers: " + ", ".join(f"{name} {value:.2f}" for name, value in known.items()) + ".",
        title={"text": "Do both find the same experts busy?"},
        height=300,
        margin={"l": 58, "r": 16, "t": 64, "b": 44},
        xaxis={"title": {"text": "layer"}, "type": "category", "showgrid": False, "nticks": 13},
        yaxis={"title": {"text": "rank correlation"}, "range": [min(0.0, *known.values(), 0.0) - 0.02, 1.03]},
    )
