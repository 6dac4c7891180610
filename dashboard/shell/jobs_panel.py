"""Long work on the screen: progress, time left, cancel, and what came of it."""

from __future__ import annotations

import streamlit as st

from dashboard.state import address, process_wide
from mode_core.jobs import Job

REFRESH = 0.7  # seconds between looks at a running job


def time_left(seconds: float | None) -> str:
    """Seconds as people say them: 'about 40 s left', 'about 3 min left'; unknown before the first step."""
    if seconds is None:
        return "time left not known yet"
    return f"about {seconds:.0f} s left" if seconds < 90 else f"about {seconds / 60:.0f} min left"


def panel(job: Job) -> None:
    """One job: a bar that refreshes by itself while it runs; the whole page is drawn anew when it ends."""
    if job.active:
        st.fragment(_running, run_every=REFRESH)(job.id)
        return
    if job.state == "failed":
        st.error(f"{job.title} failed. {job.error}", icon=":material/error:")
        with st.expander("Details for a report"):
            st.code(job.trace or "", language=None)
    elif job.state == "cancelled":
        st.warning(f"{job.title}: {job.error or 'stopped before it began.'}", icon=":material/stop_circle:")


def _running(job_id: str) -> None:
    job = process_wide.jobs().get(job_id)
    if job is None or not job.active:
        st.rerun(scope="app")
    with st.container(border=True):
        if job.state == "waiting":
            ahead = sum(other.active and other.created < job.created for other in process_wide.jobs().list())
            st.progress(0.0, text=f"{job.title}: waiting for {ahead} other job{'s' if ahead != 1 else ''} to end")
        elif job.progress is None:
            st.progress(0.0, text=f"{job.title}: starting (the model is loaded on first use)")
        else:
            now = job.progress
            text = f"{job.title}: {now.what} · {100 * now.fraction:.0f} % · {time_left(now.seconds_left)}"
            st.progress(now.fraction, text=text)
        stopping = job.cancel.is_set()
        if st.button("Stopping …" if stopping else "Cancel", key=f"cancel:{job.id}", disabled=stopping):
            job.cancel.set()


def sidebar() -> None:
    """One line in the sidebar for a job that still runs, whichever page is open."""
    for job in process_wide.jobs().list():
        if job.active and job.id == address.watched():
            st.caption(f"Working: {job.title}")
