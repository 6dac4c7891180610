"""Quantize: put the allocation into the model, on demand, and measure what it costs against uniform bits."""

from __future__ import annotations

import streamlit as st

from dashboard.parts.calibrate import trust
from dashboard.parts.controls import change_budget
from dashboard.parts.quantize import asking, measuring, plan, quantizing, results
from dashboard.shell import jobs_panel
from dashboard.state import current_run, model_sources, process_wide
from dashboard.words.plain import plain
from mode_core.allocation import AllocationError


def page() -> None:
    """Settings, what is planned, what was measured, and a question to all three models."""
    st.title("Quantize")
    st.caption("The experts are rounded to the bits of the Budget page, really packed, and put into the model. "
               "Nothing runs until you press a button.")  # fmt: skip
    current_run.run()
    top = st.container()
    quantizing.settings_part()
    try:
        chosen, uniform = plan.part()
    except AllocationError as refused:
        change_budget(refused)
        return
    job = process_wide.watched_job()
    ready = model_part() and not (job is not None and job.active)
    measuring.part(chosen, uniform, ready)
    if job is not None and job.kind.partition(":")[0] in ("measure", "ask"):
        jobs_panel.panel(job)  # below the button that was pressed, where it is in view
    results.history_part()
    results.verdict_part(top)
    results.part(ready)
    results.kept_part()
    asking.part(chosen, uniform, ready)


def model_part() -> bool:
    """Is the model here? Where it is, whether code of its own may run; else what can be done without it."""
    source = current_run.run().model_source
    if model_sources.folder_of(source):
        trust.switch(source)
        return True
    told = model_sources.not_here(source, "it cannot be quantized here; its bits can still be exported")
    st.error(plain(told), icon=":material/error:")
    return False


page()
