"""Tokens: which vision tokens count as key, in a picture, and how far the answer rests on that choice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from dashboard import charts, names, session, token_view
from dashboard.components import Readout, changes, chart, readout
from dashboard.controls import key_ratio_slider
from dashboard.glossary import explain
from dashboard.sweep import RATIOS
from mode_core.run import TokenScores

VIEWS = {"layers": "Layers", "signals": "Signals"}
MOST_PANELS = 12
PER_ROW = 4


def page() -> None:
    """Everything below the title follows the controls without a rerun of the whole page."""
    statistics = session.statistics()  # says what to do where there is no run yet
    st.title("Tokens")
    first = next(iter(statistics))
    if not statistics.signals or not first.vision("tokens", statistics.signals[0]).any():
        st.markdown("**No vision tokens were routed in this run.**")
        st.info(
            "It was calibrated on text alone: there is nothing to rank, and the key ratio changes nothing. "
            "Calibrate with samples that have pictures, or open another run.",
            icon=":material/info:",
        )
        if st.button("Go to Calibrate", type="primary", key="next_step"):
            session.go("calibrate")
        return
    explore()


@st.fragment
def explore() -> None:
    """Controls, the picture, what else could have been chosen, and how much rests on the choice."""
    statistics, scores = session.statistics(), session.token_scores()
    sentence, slot = st.container(), st.container()
    axes = charts.Axes.of(statistics)
    bank = draw_choices(axes, scores)
    if scores:
        sample = scores[session.chosen("sample", list(scores), next(iter(scores)))]
        with sentence:
            readout(headline(sample, axes, bank), "tokens")
        pictures(sample, axes, bank)
        overlaps(list(scores.values()), axes)
    else:
        st.info(
            "This run keeps no pictures (it was imported, merged, or made without them), so there is nothing to lay "
            "the ranking over. What the ranking leads to is below.",
            icon=":material/image_not_supported:",
        )
    stability(axes)

    def follow() -> str:
        """What every step of the dragged key ratio changes."""
        if not scores:
            return changes()
        return changes(large_picture(sample, axes, bank), {"tokens": headline(sample, axes, bank)})

    with slot:
        key_ratio_slider(follow)


def draw_choices(axes: charts.Axes, scores: dict[str, TokenScores]) -> str:
    """Sample, layer and signal in one row; returns the bank's name."""
    left, middle, right = st.columns([1.6, 1, 1.3], vertical_alignment="bottom")
    if scores:
        told, known = session.sample_records(), list(scores)
        left.selectbox(
            "Sample",
            known,
            format_func=lambda name: f"{told.get(name, {}).get('text') or name}"[:80],
            help="The first samples of the calibration; a run keeps these to be looked at.",
            **session.bind_place("sample", known, known[0]),
        )
    st.session_state["tokens-bank"] = session.selected()[0]
    middle.selectbox(
        "Layer",
        axes.names,
        format_func=dict(zip(axes.names, names.banks(axes), strict=True)).get,
        key="tokens-bank",
        on_change=lambda: session.select(bank=st.session_state["tokens-bank"], expert=0),
        help=explain("expert bank"),
    )
    right.selectbox(
        "Redundancy signal",
        [*session.statistics().signals, "none"],
        format_func=names.signal,
        help=explain("redundancy signal"),
        **session.bind("signal"),
    )
    return session.selected()[0]


def headline(scores: TokenScores, axes: charts.Axes, bank: str) -> Readout:
    """How much the key tokens of this picture hold, in this layer."""
    now, row = session.choices(), scores.banks.index(bank)
    count = signal_count(scores)
    if now.signal == "none":
        return Readout(f"All {count} vision tokens count as key", "since no signal ranks them.")
    kept = max(1, round(100 * now.key_ratio) * count // 100)
    if now.signal not in scores.scores:
        return Readout(
            f"{kept} of {count} vision tokens are key.", "This run keeps no scores of this signal to look at."
        )
    held = token_view.attention_held(scores, now.signal, row, now.key_ratio)
    share = f"They hold {100 * held:.0f} % of the attention that the text pays to the picture." if held else ""
    return Readout(f"{kept} of {count} vision tokens are key in layer {axes.ticks[axes.names.index(bank)]}.", share)


def signal_count(scores: TokenScores) -> int:
    return next(iter(scores.scores.values())).shape[1]


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
    now, known = session.choices(), token_view.kept_signals([scores], session.statistics().signals)
    return scores.banks.index(bank), now.signal if now.signal in known or now.signal == "none" else known[0]


def shown_picture(scores: TokenScores, bank: str) -> Shown | None:
    """None where the run keeps no picture, or the model does not tell where its tokens lie."""
    record, image = session.sample_records().get(scores.sample, {}), image_of(scores)
    found = session.picture(record["thumbnails"][image]) if image < len(record.get("thumbnails", [])) else None
    if scores.grids is None or found is None:
        return None
    return Shown(*found, scores.grids[image], token_view.image_slice(scores, image), *layer_and_signal(scores, bank))


def panel(scores: TokenScores, shown: Shown, signal: str, row: int, title: str) -> charts.Overlay:
    """One layer under one signal at the present key ratio."""
    return token_view.overlay(scores, signal, row, session.choices().key_ratio, title, shown.part)


def large_picture(scores: TokenScores, axes: charts.Axes, bank: str) -> dict[str, go.Figure]:
    """The chosen layer and signal under the name of its chart, or all tokens in order of rank where no picture is."""
    shown = shown_picture(scores, bank)
    if shown is None:
        row, signal = layer_and_signal(scores, bank)
        whole = token_view.overlay(scores, signal, row, session.choices().key_ratio, "", slice(None))
        return {"token-strip": charts.strip_of_scores(whole.ranks, whole.scores, whole.key)}
    title = f"Layer {axes.ticks[axes.names.index(bank)]}, {names.signal(shown.signal)}"
    one = [panel(scores, shown, shown.signal, shown.row, title)]
    return {"token-picture": charts.token_overlays(shown.uri, shown.grid, one, width=430, shape=shown.shape)}


def pictures(scores: TokenScores, axes: charts.Axes, bank: str) -> None:
    """The chosen layer and signal large; beside it the other layers, or the other signals."""
    which_image(scores)
    record, shown = session.sample_records().get(scores.sample, {}), shown_picture(scores, bank)
    [(key, figure)] = large_picture(scores, axes, bank).items()
    if shown is None:
        st.caption(
            "The model's processor does not tell where in the picture a token lies, so they are in order of rank."
        )
        chart(figure, key, follows=True)
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
            st.caption(f"“{record['text']}” Expected answer: {record['answer']}")
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
        **session.bind_place("shown", list(VIEWS), "layers"),
    )
    if view == "signals":
        known = token_view.kept_signals([scores], session.statistics().signals)
        panels = [panel(scores, shown, name, shown.row, names.signal(name)) for name in known]
        if len(known) == 1:
            st.caption("This run was calibrated with one signal; calibrate with more to see them side by side.")
    else:
        ticks = dict(zip(axes.names, axes.ticks, strict=True))
        panels = [
            panel(scores, shown, shown.signal, scores.banks.index(name), f"Layer {ticks[name]}")
            for name in spread(axes.names)
        ]
    across = 2 if len(panels) <= 4 else 3 if len(panels) <= 6 else PER_ROW
    figure = charts.token_overlays(shown.uri, shown.grid, panels, columns=across, width=580, shape=shown.shape)
    chart(figure, "token-panels", caption=False)


def step_to(axes: charts.Axes, what: dict) -> None:
    """Arrow keys on the picture: up and down another layer, left and right another sample."""
    bank, known = axes.names.index(session.selected()[0]), list(session.token_scores())
    sample = known.index(session.chosen("sample", known, known[0]))
    layers, samples = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}.get(what.get("step"), (0, 0))
    session.select(bank=axes.names[min(max(bank + layers, 0), len(axes.names) - 1)])
    session.put(sample=known[min(max(sample + samples, 0), len(known) - 1)])


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


def overlaps(samples: list[TokenScores], axes: charts.Axes) -> None:
    """Would another layer, or another signal, have kept the same tokens?"""
    now, known = session.choices(), token_view.kept_signals(samples, session.statistics().signals)
    signal = now.signal if now.signal in known else known[0]
    st.subheader("Would another choice have kept the same tokens?", help=explain("Jaccard overlap"))
    left, right = st.columns(2, gap="medium")
    with left:
        ticks = dict(zip(axes.names, axes.ticks, strict=True))
        labels = [ticks[name] for name in samples[0].banks]

        def between_layers() -> np.ndarray:
            return token_view.overlap_of_banks(samples, signal, now.key_ratio)

        told = f"Overlap between layers, {len(samples)} samples"
        chart(
            charts.overlap_map(labels, between_layers(), told, "layer"),
            "overlap-layers",
            table=lambda: overlap_table(labels, between_layers()),
        )
    with right:
        if len(known) < 2:
            st.caption("This run keeps one signal; calibrate with more of them to see how far they agree.")
            return
        short = [names.short_signal(name) for name in known]

        def between_signals() -> np.ndarray:
            return token_view.overlap_of_signals(samples, known, now.key_ratio)

        also = f"Overlap between signals, {len(samples)} samples"
        chart(
            charts.overlap_map(short, between_signals(), also, "signal"),
            "overlap-signals",
            table=lambda: overlap_table(short, between_signals()),
        )


def overlap_table(labels: list[str], matrix: np.ndarray) -> pd.DataFrame:
    """The square matrix as it is drawn."""
    return pd.DataFrame(matrix, columns=labels).assign(of=labels).set_index("of").reset_index()


def stability(axes: charts.Axes) -> None:
    """Frequencies and bits at every other ratio, and with every other signal, against the chosen ones."""
    now = session.choices()
    st.subheader("How stable is my answer?", help=explain("denoised frequency", "divergence"))
    budget = f"{session.bits_asked():.3g} bits on average, {names.method(now.method)}"
    if now.signal == "none":
        st.caption("No signal ranks the tokens, so the key ratio changes nothing.")
    else:
        frequencies, bits = drifted()
        left, right = st.columns(2, gap="medium")
        with left:
            chart(charts.frequency_drift(RATIOS, frequencies, now.key_ratio), "drift-frequencies",
                  table=lambda: drift_table(axes, frequencies))  # fmt: skip
        with right:
            chart(charts.bits_drift(RATIOS, bits, now.key_ratio), "drift-bits",
                  table=lambda: pd.DataFrame({"key_ratio": RATIOS, "experts_with_other_bits": bits}))  # fmt: skip
        st.caption(f"Solved again at every ratio: {budget}.")
    other_signals()


def drifted() -> tuple[np.ndarray, np.ndarray]:
    """Against the chosen ratio, at every other one: divergence `[R, L]`, and share of experts with other bits `[R]`."""
    now = session.choices()
    here = session.sweep(((now.key_ratio, now.signal),))
    every = session.sweep(tuple((ratio, now.signal) for ratio in RATIOS))
    empty = [name for name, shares in session.frequencies().items() if "key" in shares.empty]
    return every.divergence(here.key[0], empty), every.changed(here.bits[0])


def drift_table(axes: charts.Axes, drift: np.ndarray) -> pd.DataFrame:
    """One row per ratio, one column per layer: divergence in bits."""
    return pd.DataFrame(drift, columns=[f"layer {tick}" for tick in axes.ticks]).assign(key_ratio=RATIOS)


def other_signals() -> None:
    """What the other measured signals, and none at all, would have changed."""
    chart(charts.signal_drift(*signals_changed()), "drift-signals", table=signal_table)


def signals_changed() -> tuple[dict[str, float], dict[str, float]]:
    """Signal in words → share of experts with other bits, and mean divergence of the key frequencies."""
    now, known = session.choices(), [*session.statistics().signals, "none"]
    others = [name for name in known if name != now.signal]
    here = session.sweep(((now.key_ratio, now.signal),))
    found = session.sweep(tuple((now.key_ratio, name) for name in others))
    changed = dict(zip(map(names.signal, others), found.changed(here.bits[0]).tolist(), strict=True))
    away = dict(zip(changed, found.divergence(here.key[0]).mean(axis=1).tolist(), strict=True))
    return changed, away


def signal_table() -> pd.DataFrame:
    """The same as rows."""
    changed, away = signals_changed()
    held = {"signal": list(changed), "experts_with_other_bits": list(changed.values())}
    return pd.DataFrame(held | {"mean_divergence_bits": list(away.values())})


page()
