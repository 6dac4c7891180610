"""Calibrate: a model and samples in, a run out. The model is run once here; everything after it is arithmetic."""

from __future__ import annotations

import streamlit as st

from dashboard.jobs.work import calibrate_run
from dashboard.parts.calibrate import calibrating, model_picker, naming, outcome, run_list, sample_picker, trust
from dashboard.parts.controls import scroll_later, scroll_now
from dashboard.state import folders, process_wide
from mode_core.samples import Sample


def page() -> None:
    """What came of the last one, samples beside model and settings, and the runs there are."""
    st.title("Calibrate")
    st.caption("The model reads every sample once. Which experts text and vision tokens choose, and what quantization "
               "would do to them, is kept as a run; nothing later needs these samples again.")  # fmt: skip
    outcome.part()
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.subheader("Samples")
        samples = sample_picker.pick()
    with right:
        begin(samples)
    run_list.part()
    scroll_now()


def begin(samples: list[Sample]) -> None:
    """Model, settings, name and cost; then the button, or what is still missing."""
    source = model_picker.pick()
    if source:
        trust.switch(source)
    settings, kl = calibrating.settings_part(source) or (None, None)
    name = naming.part()
    busy = (job := process_wide.watched_job()) is not None and job.active
    fits = bool(source and samples) and calibrating.estimate_part(source, samples, settings, kl)
    agreed = bool(fits and settings) and calibrating.consent_part(source, samples, settings, kl)
    ready = bool(agreed and name and not busy)
    if st.button("Start calibration", type="primary", disabled=not ready, width="stretch", key="calibrate:start"):
        started = process_wide.start(
            f"Calibration of {len(samples)} samples", f"calibrate:{name}", calibrate_run,
            process_wide.shelf(), source, samples, settings, folders.runs_folder() / name, kl,
            trusted=trust.may_run(source), resume=naming.half_done(name),
        )  # fmt: skip
        if started:
            scroll_later("calibrate")  # the job's panel stands on top
            del st.session_state["calibrate:name"]
            st.rerun()
    if not samples:
        st.caption("Next: choose samples on the left.")
    elif not source:
        st.caption("Next: give the folder of a model, or a hub id.")
    elif busy:
        st.caption("A job is running; wait for it, or cancel it.")
    elif kl is not None and fits and not agreed:
        st.caption("Next: agree to the passes, or leave the KL of the answer out.")


page()
