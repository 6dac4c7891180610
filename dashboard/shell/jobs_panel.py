"""Long work on the screen: progress, time left, cancel, and what came of it."""

from __future__ import annotations

import time

import streamlit as st

from dashboard.state import address, process_wide
from dashboard.words.plain import plain
from mode_core.jobs import PATIENCE, Job

REFRESH = 0.7  # seconds between looks at a running job
HEARTBEAT = 60  # seconds between looks at the visitor's other jobs: what nobody looks at ends after `PATIENCE`


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
        st.error(f"{plain(job.title)} failed. {plain(job.error)}", icon=":material/error:")
        with st.expander("Details for a report"):
            st.code(job.trace or "", language=None)
    elif job.state == "cancelled":
        why = plain(job.error or "stopped before it began.")
        st.warning(f"{plain(job.title)}: {why}", icon=":material/stop_circle:")


def _running(job_id: str) -> None:
    job = process_wide.jobs().get(job_id, process_wide.visitor())
    if job is None or not job.active:
        st.rerun(scope="app")
    title = plain(job.title)
    with st.container(border=True):
        if job.state == "waiting":
            ahead = sum(other.active and other.created < job.created for other in process_wide.jobs().list())
            st.progress(0.0, text=f"{title}: waiting for {ahead} other job{'s' if ahead != 1 else ''} to end")
        elif job.progress is None:
            st.progress(0.0, text=f"{title}: starting (the model is loaded on first use)")
        else:
            now = job.progress
            text = f"{title}: {plain(now.what)} · {100 * now.fraction:.0f} % · {time_left(now.seconds_left)}"
            st.progress(now.fraction, text=text)
        stopping = job.cancel.is_set()
        kept = (
            "The address of this page finds the job again, here or elsewhere. With no such page open it goes on for "
            f"{PATIENCE / 3600:.0f} hours."
        )
        if st.button("Stopping …" if stopping else "Cancel", key=f"cancel:{job.id}", disabled=stopping, help=kept):
            job.cancel.set()


def sidebar() -> None:
    """The visitor's jobs that still run, whichever page is open, each with a way back to it; and a log of all."""
    if not (known := process_wide.own_jobs()):
        return
    if any(job.active for job in known):
        st.fragment(_own_jobs, run_every=HEARTBEAT)()
    with st.expander(f"Jobs ({len(known)})", type="compact", key="jobs-log", on_change="rerun") as log:
        if log.open:
            st.markdown("\n".join(_told(job) for job in known))


def _told(job: Job) -> str:
    """One line of the log: when it was asked for, what, how it ended, and why."""
    when, why = time.strftime("%H:%M", time.localtime(job.created)), f": {plain(job.error)}" if job.error else ""
    return f"- {when} {plain(job.title)}, **{job.state}**{why}"


def _own_jobs() -> None:
    for job in process_wide.own_jobs():
        if job.active and job.id == address.watched():
            st.caption(f"Working: {plain(job.title)}")
        elif job.active:
            st.button(plain(job.title), key=f"watch:{job.id}", type="tertiary", icon=":material/hourglass:",
                      on_click=address.watch, args=(job.id,))  # fmt: skip
