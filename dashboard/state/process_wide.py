"""What the whole process shares: the loaded model and the queue of long work. They are kept outside of Streamlit's
caches, which any visitor can clear; of the queue everybody sees their own jobs alone.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import streamlit as st

from dashboard.state import address
from dashboard.state.current_run import run, run_entry, run_key
from dashboard.state.remembered import remembered
from dashboard.state.visitor import visitor
from dashboard.words.plain import plain
from mode_core.jobs import Job, JobQueue, TooManyJobs
from mode_core.run import Run

if TYPE_CHECKING:
    from dashboard.jobs.shelf import ModelShelf
    from dashboard.state.measured import Measurement
    from mode_core.evaluation.records import Scores


_JOBS = JobQueue()


def shelf() -> ModelShelf:
    """The process's loaded model, shared by all sessions and jobs."""
    from dashboard.jobs import shelf as shelves

    return shelves.SHELF


def keep_imports() -> None:
    """Take what imports left out of garbage collection: going through it took 80 ms at a time, amid somebody's drag.

    Once after the first page and once after torch was imported, so what is kept for good stays bounded.
    """
    _keep("torch" in sys.modules)


@cache  # for the process, whatever is cleared
def _keep(with_torch: bool) -> None:
    gc.collect()
    gc.freeze()


def jobs() -> JobQueue:
    """The process's queue of long work: one worker thread."""
    return _JOBS


def own_jobs() -> list[Job]:
    """The jobs of whoever looks at this page, newest first; the one in the address is theirs, since they have it."""
    watched_job()
    return jobs().of(visitor())


def watched_job() -> Job | None:
    """The job in the address, for whoever has it."""
    return jobs().get(address.watched(), visitor())


def start(title: str, kind: str, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Job | None:
    """Queue work as the visitor's own and put its id into the address; None, with the reason on the page, if full."""
    try:
        job = jobs().submit(title, kind, work, *args, owner=visitor(), **kwargs)
    except TooManyJobs as full:
        st.error(plain(full), icon=":material/hourglass_disabled:")
        return None
    address.watch(job.id)
    return job


def finished(kind: str) -> Any:
    """What the visitor's newest job of that kind came to; None where none is done."""
    return next((job.result for job in own_jobs() if job.kind == kind and job.state == "done"), None)


def run_busy(name: str) -> bool:
    """Does a job still write into the run of that name?"""
    return any(job.active and job.kind == f"calibrate:{name}" for job in jobs().list())


def damaged_measurements() -> dict[str, str]:
    """Names of evaluations in the open run that cannot be read, and why."""
    return _kept_scores((run_key(), _stamps()), run())[1]


def kept_scores() -> dict[str, Scores]:
    """Name → scores of every evaluation in the open run that can be read."""
    return _kept_scores((run_key(), _stamps()), run())[2]


def _stamps() -> tuple[tuple[str, int], ...]:
    folder = run_entry().path / "evaluations"
    return tuple(sorted((path.name, path.stat().st_mtime_ns) for path in folder.glob("*.json")))


def measurements() -> list[Measurement]:
    """What was measured with the open run, newest first: kept in it, or by a job of this visitor's own."""
    found = {measured.fingerprint: measured for measured in _kept_scores((run_key(), _stamps()), run())[0]}
    kind = f"measure:{run_entry().path}"
    found |= {job.result.fingerprint: job.result for job in own_jobs() if job.kind == kind and job.state == "done"}
    return sorted(found.values(), key=lambda measured: measured.made, reverse=True)


@remembered(8)
def _kept_scores(key: tuple, _run: Run) -> tuple[list[Measurement], dict[str, str], dict[str, Scores]]:
    from dashboard.state.measured import measurements_of, read_records

    damaged: dict[str, str] = {}
    kept = read_records(_run.evaluations(damaged), damaged)
    return measurements_of(kept, damaged), damaged, kept
