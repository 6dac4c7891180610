"""The pictures of the Tokens page: one layer and signal large, others beside it, and the rows behind them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from dashboard import charts
from dashboard.components import chart
from dashboard.parts.tokens import token_view
from dashboard.state import address, current_run, kept_samples
from dashboard.words import names
from dashboard.words.plain import plain
from mode_core.runs.run import TokenScores

VIEWS = {"layers": "Layers", "signals": "Signals"}
MOST_PANELS = 12
PER_ROW = 4


@dataclass(frozen=True)
class Shown:
    """What of a sample is laid out: the picture as a data URI and its height ÷ width, its tokens, layer and signal."""

    uri: str
    shape: float
    grid: tuple[int, int]
    part: slice
    row: int
    signal: str


def layer_and_signal(scores: TokenScores, bank: str) -> tuple[int, str]:
    """Row of the bank among those kept, and the signal that is looked at: the chosen one where it was kept."""
    now, known = address.choices().request, token_view.kept_signals([scores])
    return scores.banks.index(bank), now.signal if now.signal in known or now.signal == "none" else known[0]


def shown_picture(scores: TokenScores, bank: str) -> Shown | None:
    """None where the run keeps no picture, or the model does not tell where its tokens lie."""
    record, image = kept_samples.sample_records().get(scores.sample, {}), image_of(scores)
    found = kept_samples.picture(record["thumbnails"][image]) if image < len(record.get("thumbnails", [])) else None
    if scores.grids is None or found is None:
        return None
    return Shown(*found, scores.grids[image], token_view.image_slice(scores, image), *layer_and_signal(scores, bank))


def panel(scores: TokenScores, shown: Shown, signal: str, row: int, title: str) -> charts.Overlay:
    """One layer under one signal at the present key ratio."""
    return token_view.overlay(scores, signal, row, address.choices().request.key_ratio, title, shown.part)


def large_picture(scores: TokenScores, axes: charts.Axes, bank: str) -> dict[str, go.Figure]:
    """The chosen layer and signal under the name of its chart, or all tokens in order of rank where no picture is."""
    shown = shown_picture(scores, bank)
    if shown is None:
        row, signal = layer_and_signal(scores, bank)
        whole = token_view.overlay(scores, signal, row, address.choices().request.key_ratio, "", slice(None))
        return {"token-strip": charts.strip_of_scores(whole.ranks, whole.scores, whole.key)}
    title = f"Layer {axes.ticks[axes.names.index(bank)]}, {names.signal(shown.signal)}"
    one = [panel(scores, shown, shown.signal, shown.row, title)]
    return {"token-picture": charts.token_overlays(shown.uri, shown.grid, one, width=430, shape=shown.shape)}


def pictures(scores: TokenScores, axes: charts.Axes, bank: str) -> None:
    """The chosen layer and signal large; beside it the other layers, or the other signals."""
    which_image(scores)
    record, shown = kept_samples.sample_records().get(scores.sample, {}), shown_picture(scores, bank)
    [(key, figure)] = large_picture(scores, axes, bank).items()
    if shown is None:
        st.caption(
            "The model's processor does not tell where in the picture a token lies, so they are in order of rank."
        )
        row, signal = layer_and_signal(scores, bank)
        chart(figure, key, follows=True, table=lambda: strip_table(scores, signal, row))
        return
    left, right = st.columns([1, 1.35], gap="medium")
    with left:
        chart(
            figure,
            key,
            caption=False,
            follows=True,
            table=lambda: token_table(panel(scores, shown, shown.signal, shown.row, ""), shown.grid),
            on_pick=lambda what: step_to(axes, what),
        )
        if record.get("answer"):
            st.caption(f"“{plain(record['text'])}” Expected answer: {plain(record['answer'])}")
    with right:
        beside(scores, axes, shown)


def beside(scores: TokenScores, axes: charts.Axes, shown: Shown) -> None:
    """The same picture in other layers, or under the other signals."""
    view = st.segmented_control(
        "Beside each other",
        list(VIEWS),
        label_visibility="collapsed",
        format_func=VIEWS.get,
        required=True,
        **address.bind_place("shown", list(VIEWS), "layers"),
    )
    if view == "signals":
        known, counted = token_view.kept_signals([scores]), current_run.statistics().signals
        panels = [panel(scores, shown, name, shown.row, names.short_signal(name)) for name in known]
        if len(known) == 1:
            st.caption("This run was calibrated with one signal; calibrate with more to see them side by side.")
        elif only_scored := [names.short_signal(name) for name in known if name not in counted]:
            st.caption(f"Only to compare, since this run counted nothing by them: {plain(', '.join(only_scored))}.")
    else:
        ticks = dict(zip(axes.names, axes.ticks, strict=True))
        panels = [
            panel(scores, shown, shown.signal, scores.banks.index(name), f"Layer {ticks[name]}")
            for name in spread(axes.names)
        ]
    across = 2 if len(panels) <= 4 else 3 if len(panels) <= 6 else PER_ROW
    figure = charts.token_overlays(shown.uri, shown.grid, panels, columns=across, width=580, shape=shown.shape)
    chart(figure, "token-panels", caption=False, table=lambda: panels_table(panels, shown.grid))


def step_to(axes: charts.Axes, what: dict) -> None:
    """Arrow keys on the picture: up and down another layer, left and right another sample."""
    bank, known = axes.names.index(current_run.selected()[0]), list(kept_samples.all_scores())
    sample = known.index(address.chosen("sample", known, known[0]))
    layers, samples = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}.get(what.get("step"), (0, 0))
    current_run.select(bank=axes.names[min(max(bank + layers, 0), len(axes.names) - 1)])
    address.put(sample=known[min(max(sample + samples, 0), len(known) - 1)])


def image_of(scores: TokenScores) -> int:
    """The picture to show of a sample that has several."""
    return st.session_state.get(f"tokens-image:{scores.sample}") or 0


def which_image(scores: TokenScores) -> None:
    """Choose it, where there are several."""
    count = len(scores.grids or ())
    if count > 1:
        st.segmented_control("Picture", range(count), default=0, required=True, key=f"tokens-image:{scores.sample}",
                             format_func=lambda place: str(place + 1))  # fmt: skip


def spread(banks: tuple[str, ...]) -> list[str]:
    """At most `MOST_PANELS` banks, evenly over the model."""
    places = np.unique(np.linspace(0, len(banks) - 1, min(MOST_PANELS, len(banks))).round().astype(int))
    return [banks[place] for place in places]


def token_table(one: charts.Overlay, grid: tuple[int, int]) -> pd.DataFrame:
    """One row per token of the picture, most important first."""
    rows, columns = np.divmod(np.arange(one.scores.size), grid[1])
    held = {"rank": one.ranks + 1, "row": rows, "column": columns, "score": one.scores, "key": one.key}
    return pd.DataFrame(held).sort_values("rank")


def panels_table(panels: list[charts.Overlay], grid: tuple[int, int]) -> pd.DataFrame:
    """The tokens of every panel, one under another."""
    return pd.concat([token_table(one, grid).assign(panel=one.title) for one in panels], ignore_index=True)


def strip_table(scores: TokenScores, signal: str, row: int) -> pd.DataFrame:
    """One row per token of a sample whose tokens have no known place, most important first."""
    whole = token_view.overlay(scores, signal, row, address.choices().request.key_ratio, "", slice(None))
    held = {"rank": whole.ranks + 1, "token": np.arange(whole.scores.size), "score": whole.scores, "key": whole.key}
    return pd.DataFrame(held).sort_values("rank")
