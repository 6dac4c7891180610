"""What came of the calibration in the address: its progress, or its run and what to do next."""

from __future__ import annotations

import streamlit as st

from dashboard.parts.calibrate.naming import state_of
from dashboard.parts.controls import coverage_note
from dashboard.shell import jobs_panel
from dashboard.state import address, current_run, folders, process_wide
from dashboard.words.plain import plain
from dashboard.words.sizes import size_text
from mode_core.run import Run
from mode_core.runs.run import ANCHOR_FILE


def part() -> None:
    """The job in the URL, if it is a calibration: its progress, or what came of it and what to do next."""
    job = process_wide.watched_job()
    if job is None or not job.kind.startswith("calibrate:"):
        return
    name = job.kind.partition(":")[2]
    jobs_panel.panel(job)
    if job.active:
        return
    folder = folders.runs_folder() / name
    readable = state_of(name) in ("half done", "done")
    if readable and st.session_state.get("calibrate:opened") != job.id:  # once: later another run may be looked at
        st.session_state["calibrate:opened"] = job.id
        current_run.open_run(name)
        st.rerun()
    if job.state == "done" and readable:
        info = Run.open(folder).info
        spent = f"It took {info.get('seconds', 0):.0f} s and {size_text(info.get('peak_memory_bytes', 0))} at most."
        opened = " and open" if address.wanted_run() == name else ""
        unit = " Its predictions are in nats: an anchor was measured." if (folder / ANCHOR_FILE).is_file() else ""
        st.success(f"The run {plain(repr(name))} is finished{opened}. {spent}{unit}", icon=":material/check_circle:")
        if opened:
            coverage_note()
    elif readable:
        half = "half-done " if state_of(name) != "done" else ""
        st.info(f"What was measured before the end is kept: the {half}run {plain(repr(name))} is open.")
    left, right, _ = st.columns([1, 1, 4])
    if readable and left.button("See its experts", type="primary"):
        address.go("experts")
    if right.button("Dismiss"):
        address.watch(None)
        st.rerun()
