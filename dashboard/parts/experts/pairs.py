"""Experts that are alike and experts that work together: the rest of a layer beside the chosen expert, on request."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import charts
from dashboard.components import chart
from dashboard.state import current_run, kept_samples, model_sources
from dashboard.state.remembered import remembered
from dashboard.words.plain import plain
from mode_core.errors import ModeError, RunError
from mode_core.models.errors import ModelError
from mode_core.run import Run
from mode_core.runs.expert_pairs import used_together


def part(bank: str, expert: int) -> None:
    """Both pictures, made when they are asked for."""
    opened = st.expander("Experts that are alike, and experts that work together", key="pairs", on_change="rerun")
    if not opened.open:
        return
    left, right = opened.columns(2, gap="medium")
    with left:
        try:
            cosines = _alike(current_run.run_key(), current_run.run(), bank)[expert]
        except (ModeError, OSError) as unknown:
            st.caption(f"Which experts are alike is not known. {plain(unknown)}")
        else:
            chart(charts.alike_dots(cosines, expert), "alike", table=lambda: _rows("cosine", cosines, expert))
            st.caption("Rows of the router's weight less their mean, which changes no choice. Alike experts are sent "
                       "like tokens; what they do with them may differ.")  # fmt: skip
    with right:
        try:
            both, tokens = _together(current_run.run_key(), current_run.run(), bank)
        except RunError as damaged:
            st.caption(plain(damaged))
            return
        if not tokens:
            st.caption("This run keeps no routes of single tokens. Calibrate again to see who works together.")
            return
        chart(charts.together_dots(both, tokens, expert), "together",
              table=lambda: _rows("tokens in common", both[expert], expert))  # fmt: skip
        st.caption(f"Counted in the {tokens:,} tokens whose routes the run keeps: few, of its first samples.")


def _rows(what: str, values: np.ndarray, expert: int) -> pd.DataFrame:
    """Every other expert, the largest value first."""
    frame = pd.DataFrame({"expert": np.arange(len(values)), what: values})
    return frame.drop(index=expert).sort_values(what, ascending=False, kind="stable")


@remembered(64, "Reading the router …")
def _alike(key: tuple, opened: Run, bank: str) -> np.ndarray:
    from mode_core.models.router_rows import alike, router_rows  # with torch, which the rest of the page does not need

    shape, source = opened.statistics.banks[bank].shape, opened.model_source
    if (folder := model_sources.folder_of(source)) is None:
        raise ModelError(model_sources.not_here(source, "its router cannot be read"))
    model_sources.allowed(source)
    return alike(router_rows(folder, bank, shape.experts, shape.hidden))


@remembered(64)
def _together(key: tuple, opened: Run, bank: str) -> tuple[np.ndarray, int]:
    return used_together(kept_samples.token_routes().values(), bank, opened.statistics.banks[bank].shape.experts)
