"""Who uses which expert: maps of text, raw vision and denoised vision on one scale, as multiples of an even share."""

from __future__ import annotations

import numpy as np

from dashboard.charts import theme
from dashboard.charts.grids import reorder
from dashboard.charts.measures import FrequencyGrid
from dashboard.charts.panels import Panel, bar, within
from mode_core.importance.bias import busiest_ranks
from mode_core.modalities import ALL, KEY_AUDIO, KEY_TOKENS, TEXT_TOKENS, VISION_TOKENS

VIEWS = {"load": "Load", "rank": "Rank", "ratio": "Ratio", "specialisation": "Specialisation"}
PANELS = (TEXT_TOKENS, VISION_TOKENS, KEY_TOKENS, KEY_AUDIO)  # those of them that the run has
TITLES = {
    TEXT_TOKENS: "Text",
    VISION_TOKENS: "Raw vision",
    KEY_TOKENS: "Denoised vision",
    KEY_AUDIO: "Denoised audio",
    ALL: "all counted together",
}
RATIOS = ((TEXT_TOKENS, ALL), (KEY_TOKENS, VISION_TOKENS), (TEXT_TOKENS, KEY_TOKENS), (TEXT_TOKENS, KEY_AUDIO))
MOST_DOUBLINGS = 3  # of the scale: an eighth and eight times
_FRACTIONS = {-1: "½", -2: "¼", -3: "⅛"}


def frequency_panels(grid: FrequencyGrid, view: str, columns: np.ndarray | None) -> list[Panel]:
    """The maps of one of `VIEWS`, experts of each layer in the order of `columns` (`[L, E]`, None: by number).

    Raises:
        ValueError: an unknown view.
    """
    if view not in VIEWS:
        raise ValueError(f"Expected a view of {list(VIEWS)}; got {view!r}.")
    if view == "specialisation":
        return [_specialisation(grid, columns)]
    if view == "ratio":
        return [_ratio(grid, one, other, columns) for one, other in RATIOS if other in grid.shares]
    return [_of_one_kind(grid, kind, view, columns) for kind in PANELS if kind in grid.shares]


def _of_one_kind(grid: FrequencyGrid, kind: str, view: str, columns: np.ndarray | None) -> Panel:
    load = grid.load(kind)
    z = doublings(load) if view == "load" else busiest_ranks(grid.shares[kind])
    rank = "rank %{z:.0f} in its layer, " if view == "rank" else ""
    hover = f"{rank}%{{text:.2f}}× an even share of {theme.KIND_NAMES[kind]}"
    missing = np.isnan(grid.shares[kind])
    title = f"{TITLES[kind]}</b> · {theme.KIND_NAMES[kind]}<b>"
    return _panel(grid, title, TITLES[kind].lower(), z, load, grid.counts[kind], hover, missing, columns)


def _ratio(grid: FrequencyGrid, one: str, other: str, columns: np.ndarray | None) -> Panel:
    """How many times the share among tokens of `one` kind is the share among the `other`."""
    with np.errstate(divide="ignore", invalid="ignore"):
        times = grid.shares[one] / grid.shares[other]
    title = f"{TITLES[one]} ÷ {TITLES[other].lower()}"
    hover = f"%{{text:.2f}}× in {TITLES[one].lower()} what it is in {TITLES[other].lower()}"
    return _panel(
        grid, title, title.lower(), doublings(times), times, grid.counts[one], hover, np.isnan(times), columns
    )


def _specialisation(grid: FrequencyGrid, columns: np.ndarray | None) -> Panel:
    """Text ÷ denoised vision, the greyer the less of both an expert gets: a ratio of next to nothing says nothing."""
    panel = _ratio(grid, TEXT_TOKENS, KEY_TOKENS, columns)
    load = np.clip(np.fmax(grid.load(TEXT_TOKENS), grid.load(KEY_TOKENS)), 0, 1)
    veil = {
        "type": "heatmap",
        "z": reorder(load, columns),
        "y": grid.axes.labels,
        "zmin": 0,
        "zmax": 1,
        "colorscale": [[0, "rgba(128,128,128,0.92)"], [1, "rgba(128,128,128,0)"]],
        "showscale": False,
        "hoverinfo": "skip",
    }
    title = f"{panel.title}</b> · fading to grey where both are rare<b>"
    return Panel(title, panel.heatmap, panel.missing, panel.why, (veil,), tall=3)


def _panel(
    grid: FrequencyGrid,
    title: str,
    says: str,
    z: np.ndarray,
    value: np.ndarray,
    counts: np.ndarray,
    hover: str,
    missing: np.ndarray,
    columns: np.ndarray | None,
) -> Panel:
    """Hover facts are 2-D arrays, one channel each: the browser unpacks those several times faster. `name` and `meta`
    are how the value of one cell is said aloud."""
    experts = np.broadcast_to(np.arange(z.shape[1], dtype=np.float32), z.shape)
    z, value, counts, experts, missing = (
        reorder(array, columns) for array in (z, value, counts, experts, missing & within(grid.axes))
    )
    heatmap = {
        "type": "heatmap",
        "z": z,
        "text": value,
        "hovertext": counts,
        "customdata": np.ascontiguousarray(experts),
        "hovertemplate": f"<b>expert %{{customdata:.0f}}</b> · %{{y}}<br>{hover}<br>%{{hovertext:,.0f}} tokens"
        "<extra></extra>",
        "y": grid.axes.labels,
        "coloraxis": "coloraxis",
        "hoverongaps": False,
        "name": says,
        "meta": "times",
    }
    return Panel(title, heatmap, missing, f"{says}: no such token was routed here")


def doublings(times: np.ndarray) -> np.ndarray:
    """Base-2 logarithm, float32: 0 is 1×; what is further off than the scale could ever show stands just beyond it."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.clip(np.log2(times), -16, 16).astype(np.float32)


def frequency_scale(grid: FrequencyGrid, view: str, panels: list[Panel], bands: list[tuple[float, float]]) -> dict:
    """One colour axis for all maps. Its range does not depend on the key ratio, so dragging never rescales."""
    if view == "rank":
        top = max(grid.axes.experts)
        ticks = sorted({1, *np.linspace(1, top, 5).astype(int).tolist()})
        return {"colorscale": theme.SHARE_SCALE, "reversescale": True, "cmin": 1, "cmax": top,
                "colorbar": bar("rank", bands, ticks, [f"{tick}" for tick in ticks])}  # fmt: skip
    steady = np.stack([doublings(grid.load(kind)) for kind in (TEXT_TOKENS, VISION_TOKENS)])
    end, ticks, texts = load_ticks(steady, np.stack([panel.heatmap["z"] for panel in panels]))
    title = "× even" if view == "load" else "ratio"
    return {"colorscale": theme.DIFFERENCE_SCALE, "cmin": -end, "cmax": end, "cmid": 0,
            "colorbar": bar(title, bands, ticks, texts)}  # fmt: skip


def load_ticks(steady: np.ndarray, shown: np.ndarray) -> tuple[int, list[int], list[str]]:
    """Doublings that a scale reaches to either side, its ticks and what they say: all but one in fifty of the values
    `steady` lie within; "≤" and "≥" where some of those `shown` do not."""
    known = np.abs(steady[np.isfinite(steady) & (np.abs(steady) < 16)])
    end = int(np.clip(np.ceil(np.percentile(known, 98)), 1, MOST_DOUBLINGS)) if known.size else 1
    ticks = list(range(-end, end + 1))
    texts = [f"{_FRACTIONS.get(tick, f'{2.0**tick:g}')}×" for tick in ticks]
    texts[0] = "≤ " * bool((shown < -end).any()) + texts[0]  # nothing is known of NaN, which is neither
    texts[-1] = "≥ " * bool((shown > end).any()) + texts[-1]
    return end, ticks, texts


def frequency_summary(grid: FrequencyGrid) -> str:
    """The busiest expert for text, and what denoised vision makes of it."""
    text, key = grid.load(TEXT_TOKENS), grid.load(KEY_TOKENS)
    if not np.isfinite(text).any():
        return "No text token was routed in these samples."
    row, expert = np.unravel_index(np.nanargmax(text), text.shape)
    seen = key[row, expert]
    beside = "no key vision token came to its layer" if np.isnan(seen) else f"{seen:.1f}× in denoised vision"
    return (
        f"The busiest expert for text is expert {expert} of layer {grid.axes.ticks[row]}: "
        f"{text[row, expert]:.1f}× an even share; {beside}."
    )
