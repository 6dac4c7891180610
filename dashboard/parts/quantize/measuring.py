"""The measurement itself: on which items, how many of them, and the button that starts it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from dashboard.jobs import work
from dashboard.parts.calibrate import sample_picker, trust
from dashboard.parts.quantize import quantizing
from dashboard.state import current_run, folders, process_wide, solving
from dashboard.words.plain import plain
from mode_core.allocation import Allocation
from mode_core.samples import Sample, SampleError, read_samples

USUAL = 200  # evaluation items: enough to tell uniform widths apart on the bundled model


@st.cache_resource(max_entries=1, show_spinner="Reading the evaluation samples …")
def evaluation_samples(stamp: int) -> list[Sample]:
    return list(read_samples(folders.EVALUATION))


def answerable() -> list[Sample]:
    """The bundled evaluation samples; empty where they are missing."""
    if not folders.EVALUATION.is_dir():
        return []
    return evaluation_samples(folders.EVALUATION.stat().st_mtime_ns)


def at_hand() -> dict[str, Sample]:
    """Sample id → sample, of the bundled items and of the person's own file: to show what was measured on."""
    own = st.session_state.get("uploads:evaluation:read", (None, ()))[1]
    return {sample.id: sample for sample in (*answerable(), *own)}


def spread(samples: list[Sample], count: int) -> list[Sample]:
    """`count` of the samples, evenly over the list, so that every task has its share."""
    return [samples[place] for place in np.linspace(0, len(samples) - 1, count).round().astype(int)]


def part(chosen: Allocation, uniform: Allocation, ready: bool) -> None:
    """The button, and how many items it takes."""
    samples = evaluation_part(answerable())
    if not samples:
        return
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    few = min(32, len(samples))
    count = len(samples) if few == len(samples) else left.slider(
        "Evaluation items", few, len(samples), min(USUAL, len(samples)), key="quantize:items", persist_state="session",
        help="Spread over all tasks. Fewer are faster and less certain; the intervals say how much.",
    )  # fmt: skip
    if right.button("Quantize and measure", type="primary", disabled=not ready, width="stretch", key="quantize:go"):
        opened, kind = current_run.run(), f"measure:{current_run.run_entry().path}"
        started = process_wide.start(
            f"Measuring on {count} items", kind, work.measure, process_wide.shelf(), opened, chosen, uniform,
            solving.quantizer(), spread(samples, count), solving.fingerprint(chosen), solving.settings_now(),
            current_run.writable(), quantizing.calibration_samples(), trusted=trust.may_run(opened.model_source),
        )  # fmt: skip
        if started:
            st.rerun()


def evaluation_part(bundled: Sequence[Sample]) -> list[Sample]:
    """The items to measure on: the bundled ones, or a person's own file; empty while there are none."""
    options = ["Bundled items", "Own file"] if bundled else ["Own file"]
    which = st.segmented_control(
        "Measured on", options, default=options[0], required=True, key="quantize:source", persist_state="session",
        help="With an answer an item counts for accuracy; without one only the distance to the original is measured.",
    )  # fmt: skip
    if which == "Bundled items":
        return list(bundled)
    try:
        own = sample_picker.own_file("evaluation")
    except SampleError as refused:
        st.error(plain(refused), icon=":material/error:")
        return []
    if not own:
        st.caption("Next: give a JSONL, CSV, JSON or zip with questions, their pictures and (where known) answers.")
    return own
