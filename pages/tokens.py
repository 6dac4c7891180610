"""Tokens: which vision tokens count as key, in a picture, and how far the answer rests on that choice."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import charts
from dashboard.components import Readout, changes, chart, readout
from dashboard.parts.budget.sweep import RATIOS
from dashboard.parts.controls import key_ratio_slider
from dashboard.parts.tokens import token_view
from dashboard.parts.tokens.token_pictures import large_picture, pictures
from dashboard.state import address, current_run, kept_samples, solving
from dashboard.words import names
from dashboard.words.glossary import explain
from dashboard.words.plain import plain
from mode_core.allocation import AllocationError
from mode_core.importance import ImportanceError
from mode_core.runs.run import TokenScores


def page() -> None:
    """Everything below the title follows the controls without a rerun of the whole page."""
    statistics = current_run.statistics()  # says what to do where there is no run yet
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
            address.go("calibrate")
        return
    explore()


@st.fragment
def explore() -> None:
    """Controls, the picture, what else could have been chosen, and how much rests on the choice."""
    statistics, scores = current_run.statistics(), kept_samples.token_scores()
    sentence, slot = st.container(), st.container()
    axes = charts.Axes.of(statistics)
    bank = draw_choices(axes, scores)
    if scores:
        sample = scores[address.chosen("sample", list(scores), next(iter(scores)))]
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
        told, known = kept_samples.sample_records(), list(scores)
        left.selectbox(
            "Sample",
            known,
            format_func=lambda name: f"{told.get(name, {}).get('text') or name}"[:80],
            help="The first samples of the calibration; a run keeps these to be looked at.",
            **address.bind_place("sample", known, known[0]),
        )
    st.session_state["tokens-bank"] = current_run.selected()[0]
    middle.selectbox(
        "Layer",
        axes.names,
        format_func=dict(zip(axes.names, names.banks(axes), strict=True)).get,
        key="tokens-bank",
        on_change=lambda: current_run.select(bank=st.session_state["tokens-bank"], expert=0),
        help=explain("expert bank"),
    )
    right.selectbox(
        "Redundancy signal",
        [*current_run.statistics().signals, "none"],
        format_func=names.signal,
        help=explain("redundancy signal"),
        **address.bind("signal"),
    )
    return current_run.selected()[0]


def headline(scores: TokenScores, axes: charts.Axes, bank: str) -> Readout:
    """How much the key tokens of this picture hold, in this layer."""
    now, row = address.choices().request, scores.banks.index(bank)
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


def overlaps(samples: list[TokenScores], axes: charts.Axes) -> None:
    """Would another layer, or another signal, have kept the same tokens?"""
    now, known = address.choices().request, token_view.kept_signals(samples)
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
    st.subheader("How stable is my answer?", help=explain("denoised frequency", "divergence"))
    try:
        key_ratios(axes)
        chart(charts.signal_drift(*signals_changed()), "drift-signals", table=signal_table)
    except (AllocationError, ImportanceError) as refused:
        st.warning(f"The bits cannot be compared with these settings. {plain(refused)}", icon=":material/info:")


def key_ratios(axes: charts.Axes) -> None:
    """What every other key ratio would have changed."""
    now = address.choices().request
    budget = f"{solving.bits_asked():.3g} bits on average, {names.method(now.method)}"
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


def drifted() -> tuple[np.ndarray, np.ndarray]:
    """Against the chosen ratio, at every other one: divergence `[R, L]`, and share of experts with other bits `[R]`."""
    now = address.choices().request
    here = solving.sweep(((now.key_ratio, now.signal),))
    every = solving.sweep(tuple((ratio, now.signal) for ratio in RATIOS))
    empty = [name for name, shares in solving.frequencies().items() if "key" in shares.empty]
    return every.divergence(here.key[0], empty), every.changed(here.bits[0])


def drift_table(axes: charts.Axes, drift: np.ndarray) -> pd.DataFrame:
    """One row per ratio, one column per layer: divergence in bits."""
    return pd.DataFrame(drift, columns=[f"layer {tick}" for tick in axes.ticks]).assign(key_ratio=RATIOS)


def signals_changed() -> tuple[dict[str, float], dict[str, float]]:
    """Signal in words → share of experts with other bits, and mean divergence of the key frequencies."""
    now, known = address.choices().request, [*current_run.statistics().signals, "none"]
    others = [name for name in known if name != now.signal]
    here = solving.sweep(((now.key_ratio, now.signal),))
    found = solving.sweep(tuple((now.key_ratio, name) for name in others))
    changed = dict(zip(map(names.signal, others), found.changed(here.bits[0]).tolist(), strict=True))
    away = dict(zip(changed, found.divergence(here.key[0]).mean(axis=1).tolist(), strict=True))
    return changed, away


def signal_table() -> pd.DataFrame:
    """The same as rows."""
    changed, away = signals_changed()
    held = {"signal": list(changed), "experts_with_other_bits": list(changed.values())}
    return pd.DataFrame(held | {"mean_divergence_bits": list(away.values())})


page()
