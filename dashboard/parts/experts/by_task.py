"""Which experts of the chosen layer each task of the calibration uses, on request."""

from __future__ import annotations

import numpy as np
import streamlit as st

from dashboard import charts
from dashboard.components import chart
from dashboard.state import address, current_run
from dashboard.words import tables
from mode_core.modalities import KINDS, MODALITIES

UNKNOWN = (
    "This run holds no use by task: it is of an earlier version or merged with such a run, imported, or its samples "
    "named too many. "
)
UNNAMED = "The samples of this run name no task, so there is nothing to compare. "
AGAIN = "Calibrate again, with up to 64 tasks named among the samples, to see it."


def part(bank: str, expert: int, columns: np.ndarray | None) -> None:
    """The strips of one bank's experts, in the order of the maps (`columns` `[E]`)."""
    linked = address.place("task_tokens") is not None
    opened = st.expander("Use by task", key="by-task", on_change="rerun", expanded=linked)
    if not opened.open:
        return
    with opened:
        statistics = current_run.calibrated()
        if not set(statistics.by_task) - {""}:
            st.caption((UNNAMED if statistics.by_task else UNKNOWN) + AGAIN)
            return
        kinds = statistics.modalities
        kind = st.segmented_control(
            "Tokens", kinds, required=True, format_func=lambda one: KINDS[one].title,
            **address.bind_place("task_tokens", kinds, kinds[0]),
        )  # fmt: skip
        row, size = list(statistics.banks).index(bank), statistics.banks[bank].shape.experts
        of_kind = [*MODALITIES].index(kind)
        counts = {task: held[row, of_kind, :size] for task, held in statistics.by_task.items()}
        counts = {task: held for task, held in counts.items() if held.any()}
        if not counts:
            st.caption(f"No {KINDS[kind].title.removeprefix('all ')} came to this layer.")
            return
        order, layer = np.arange(size) if columns is None else columns[:size], charts.Axes.of(statistics).ticks[row]
        chart(
            charts.use_by_task(counts, kind, layer, order, expert), "tasks",
            table=lambda: tables.task_table(counts, order),
            on_pick=lambda what: _pick(order, int(what["place"][1])),
        )  # fmt: skip


def _pick(order: np.ndarray, column: int) -> None:
    if 0 <= column < len(order):
        current_run.select(expert=int(order[column]))
