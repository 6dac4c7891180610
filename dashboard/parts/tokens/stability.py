"""How far the answer rests on the choice: frequencies and bits at every other ratio, and with every other signal."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import charts
from dashboard.components import chart
from dashboard.state import address, current_run, solving
from dashboard.state.sweep import RATIOS
from dashboard.words import names
from dashboard.words.glossary import explain
from dashboard.words.plain import plain
from mode_core.allocation import AllocationError
from mode_core.importance import ImportanceError
from mode_core.modalities import KEY_TOKENS


def part(axes: charts.Axes) -> None:
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
    empty = [name for name, shares in solving.frequencies().items() if KEY_TOKENS in shares.empty]
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
