"""Which picture, layer and signal are looked at, and what the key tokens of that picture hold."""

from __future__ import annotations

import streamlit as st

from dashboard import charts
from dashboard.components import Readout
from dashboard.parts.tokens import token_view
from dashboard.state import address, current_run, kept_samples
from dashboard.words import names
from dashboard.words.glossary import explain
from mode_core.runs.run import TokenScores


def row(axes: charts.Axes, scores: dict[str, TokenScores]) -> str:
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
        kind = "vision" if scores.scores else "audio"
        return Readout(f"All {count} {kind} tokens count as key", "since no signal ranks them.")
    kept = max(1, round(100 * now.key_ratio) * count // 100)
    if not scores.scores:
        return Readout(f"{kept} of {count} audio tokens are key in layer {axes.ticks[axes.names.index(bank)]}.", "")
    if now.signal not in scores.scores:
        return Readout(
            f"{kept} of {count} vision tokens are key.", "This run keeps no scores of this signal to look at."
        )
    held = token_view.attention_held(scores, now.signal, row, now.key_ratio)
    share = f"They hold {100 * held:.0f} % of the attention that the text pays to the picture." if held else ""
    return Readout(f"{kept} of {count} vision tokens are key in layer {axes.ticks[axes.names.index(bank)]}.", share)


def signal_count(scores: TokenScores) -> int:
    """Vision tokens of the sample; audio tokens where it has sounds alone."""
    return next(iter((scores.scores or scores.audio).values())).shape[1]
