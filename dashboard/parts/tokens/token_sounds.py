"""The sounds of a sample on the Tokens page: a spectrogram over time, dimmed where an audio token matters little."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from dashboard import charts
from dashboard.components import chart
from dashboard.parts.tokens import token_view
from dashboard.state import address, kept_samples
from dashboard.words import names
from mode_core.runs.run import TokenScores

SHAPE, WIDTH = 0.16, 900  # height ÷ width of a strip, and pixels of its width


def strips(scores: TokenScores, axes: charts.Axes, bank: str) -> dict[str, go.Figure]:
    """Every sound of the sample under the name of its chart; empty where it is not known which tokens are whose."""
    drawn = kept_samples.sample_records().get(scores.sample, {}).get("sounds", [])
    found, layer = {}, axes.ticks[axes.names.index(bank)]
    for number, (file, (tokens, seconds)) in enumerate(zip(drawn, scores.sounds, strict=False)):
        if (picture := kept_samples.picture(file)) is None:
            continue
        one, signal = _overlay(scores, bank, number)
        title = f"Sound {number + 1}, {seconds:.2f} s, layer {layer}, {names.signal(signal)}"
        one = charts.Overlay(title, one.scores, one.ranks, one.key)
        found[f"token-sound-{number}"] = charts.token_overlays(
            picture[0], (1, tokens), [one], width=WIDTH, shape=SHAPE, kind="audio"
        )
    return found


def _overlay(scores: TokenScores, bank: str, number: int) -> tuple[charts.Overlay, str]:
    """One sound's tokens, ranked among all of the sample's, and the signal: the chosen one where it was kept."""
    now, row = address.choices().request, scores.banks.index(bank)
    signal = now.signal if now.signal in scores.audio or now.signal == "none" else next(iter(scores.audio))
    begin = sum(tokens for tokens, _ in scores.sounds[:number])
    part = slice(begin, begin + scores.sounds[number][0])
    return token_view.overlay(scores, signal, row, now.key_ratio, "", part, scores.audio), signal


def part(scores: TokenScores, axes: charts.Axes, bank: str) -> None:
    """All strips of the sample, one under another."""
    figures = strips(scores, axes, bank)
    if not figures:
        st.caption("It is not known when in the sounds of this sample its audio tokens lie.")
    for number, (key, figure) in enumerate(figures.items()):
        chart(figure, key, follows=True, table=lambda number=number: table(scores, bank, number))


def table(scores: TokenScores, bank: str, number: int) -> pd.DataFrame:
    """One row per token of a sound, in the order of time."""
    one, _ = _overlay(scores, bank, number)
    tokens, seconds = scores.sounds[number]
    edges = np.linspace(0, seconds, tokens + 1)
    held = {"from": edges[:-1], "to": edges[1:], "rank": one.ranks + 1, "score": one.scores, "key": one.key}
    return pd.DataFrame(held)
