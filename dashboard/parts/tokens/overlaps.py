"""Would another layer, or another signal, have kept the same tokens?"""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import charts
from dashboard.components import chart
from dashboard.parts.tokens import token_view
from dashboard.state import address
from dashboard.words import names
from dashboard.words.glossary import explain
from mode_core.runs.run import TokenScores


def part(samples: list[TokenScores], axes: charts.Axes) -> None:
    """Two maps of overlap: of every two layers, and of every two signals."""
    now, known = address.choices().request, token_view.kept_signals(samples)
    signal = now.signal if now.signal in known else known[0]
    st.subheader("Would another choice have kept the same tokens?", help=explain("Jaccard overlap"))
    left, right = st.columns(2, gap="medium")
    with left:
        ticks = dict(zip(axes.names, axes.ticks, strict=True))
        labels = [ticks[name] for name in samples[0].banks]
        matrix = token_view.overlap_of_banks(samples, signal, now.key_ratio)
        _map(labels, matrix, f"Overlap between layers, {len(samples)} samples", "layer")
    with right:
        if len(known) < 2:
            st.caption("This run keeps one signal; calibrate with more of them to see how far they agree.")
            return
        matrix = token_view.overlap_of_signals(samples, known, now.key_ratio)
        short = [names.short_signal(name) for name in known]
        _map(short, matrix, f"Overlap between signals, {len(samples)} samples", "signal")


def _map(labels: list[str], matrix: np.ndarray, title: str, what: str) -> None:
    """The square matrix as a map, with its table."""
    chart(charts.overlap_map(labels, matrix, title, what), f"overlap-{what}s", table=lambda: _table(labels, matrix))


def _table(labels: list[str], matrix: np.ndarray) -> pd.DataFrame:
    """The square matrix as it is drawn."""
    return pd.DataFrame(matrix, columns=labels).assign(of=labels).set_index("of").reset_index()
