"""Calibrate: a model and samples in, a run out. The model is run once here; everything after it is arithmetic."""

import re
import time

import streamlit as st

from dashboard.jobs.work import calibrate_run
from dashboard.parts.calibrate import calibrating, model_picker, run_list, sample_picker, trust
from dashboard.parts.controls import scroll_later, scroll_now
from dashboard.shell import jobs_panel
from dashboard.state import address, current_run, folders, process_wide
from dashboard.words.plain import plain
from mode_core.errors import ModeError
from mode_core.run import Run
from mode_core.runs.run import ANCHOR_FILE

NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}")


def name_part() -> str | None:
    """A name for the run that is not taken; None while it will not do."""
    if "calibrate:name" not in st.session_state:
        st.session_state["calibrate:name"] = folders.free_name(time.strftime("run-%m%d-%H%M%S"))
    name = st.text_input("Name of the run", key="calibrate:name", persist_state="session").strip()
    if not NAME.fullmatch(name):
        st.error("A run's name has letters, digits, '.', '-' and '_', at most 64, and begins with a letter or digit.")
    elif half_done(name):
        st.info(f"The run {plain(repr(name))} is half done. With its model, samples and settings it is continued.")
        return name
    elif (folders.runs_folder() / name).exists() or name == folders.BUNDLED or process_wide.run_busy(name):
        st.error(f"There is a run called {plain(repr(name))} already; choose another name.")
    else:
        return name
    return None


def half_done(name: str) -> bool:
    """Is there a run of that name that was interrupted?"""
    return not process_wide.run_busy(name) and state_of(name) in ("begun", "half done")


def state_of(name: str) -> str | None:
    """The state of the run of that name; None where there is none, or one that cannot be read."""
    try:
        return Run.open(folders.runs_folder() / name).state
    except (ModeError, OSError):
        return None


def outcome() -> None:
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
        spent = f"It took {info.get('seconds', 0):.0f} s and {info.get('peak_memory_bytes', 0) / 1e9:.2g} GB at most."
        opened = " and open" if address.wanted_run() == name else ""
        unit = " Its predictions are in nats: an anchor was measured." if (folder / ANCHOR_FILE).is_file() else ""
        st.success(f"The run {plain(repr(name))} is finished{opened}. {spent}{unit}", icon=":material/check_circle:")
    elif readable:
        half = "half-done " if state_of(name) != "done" else ""
        st.info(f"What was measured before the end is kept: the {half}run {plain(repr(name))} is open.")
    left, right, _ = st.columns([1, 1, 4])
    if readable and left.button("See its experts", type="primary"):
        address.go("experts")
    if right.button("Dismiss"):
        address.watch(None)
        st.rerun()


st.title("Calibrate")
st.caption("The model reads every sample once. Which experts text and vision tokens choose, and what quantization "
           "would do to them, is kept as a run; nothing later needs these samples again.")  # fmt: skip
outcome()
left, right = st.columns([3, 2], gap="large")
with left:
    st.subheader("Samples")
    samples = sample_picker.pick()
with right:
    source = model_picker.pick()
    if source:
        trust.switch(source)
    settings, kl = calibrating.settings_part() or (None, None)
    name = name_part()
    busy = (job := process_wide.watched_job()) is not None and job.active
    fits = bool(source and samples) and calibrating.estimate_part(source, samples, settings, kl)
    agreed = bool(fits and settings) and calibrating.consent_part(source, samples, settings, kl)
    ready = bool(agreed and name and not busy)
    if st.button("Start calibration", type="primary", disabled=not ready, width="stretch", key="calibrate:start"):
        started = process_wide.start(
            f"Calibration of {len(samples)} samples", f"calibrate:{name}", calibrate_run,
            process_wide.shelf(), source, samples, settings, folders.runs_folder() / name, kl,
            trusted=trust.may_run(source), resume=half_done(name),
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
run_list.part()
scroll_now()
