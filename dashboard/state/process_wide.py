"""What the whole process shares: the loaded model, the queue of long work, and what was measured."""

from __future__ import annotations

import gc
import sys
from functools import cache
from typing import TYPE_CHECKING

import streamlit as st

from dashboard.state.current_run import run, run_entry, run_key
from mode_core.jobs import JobQueue
from mode_core.run import Run

if TYPE_CHECKING:
    from dashboard.jobs.work import ModelShelf
    from dashboard.parts.quantize.measured import Measurement


@st.cache_resource(show_spinner=False)
def shelf() -> ModelShelf:
    """The process's loaded model, shared by all sessions and jobs."""
    from dashboard.jobs.work import ModelShelf

    return ModelShelf()


def keep_imports() -> None:
    """Take what imports left out of garbage collection: going through it took 80 ms at a time, amid somebody's drag.

    Once after the first page and once after torch was imported, so what is kept for good stays bounded.
    """
    _keep("torch" in sys.modules)


@cache  # for the process, whatever is cleared
def _keep(with_torch: bool) -> None:
    gc.collect()
    gc.freeze()


@st.cache_resource(show_spinner=False)
def jobs() -> JobQueue:
    """The process's queue of long work: one worker thread."""
    return JobQueue()


def run_busy(name: str) -> bool:
    """Does a job still write into the run of that name?"""
    return any(job.active and job.kind == f"calibrate:{name}" for job in jobs().list())


def measurements() -> list[Measurement]:
    """What was measured with the open run, newest first: kept in it, or by a job that this process remembers."""
    folder = run_entry().path / "evaluations"
    stamps = tuple(sorted((path.name, path.stat().st_mtime_ns) for path in folder.glob("*.json")))
    found = {measured.fingerprint: measured for measured in _kept_measurements(run_key(), stamps, run())}
    kind = f"measure:{run_entry().path}"
    found |= {job.result.fingerprint: job.result for job in jobs().list() if job.kind == kind and job.state == "done"}
    return sorted(found.values(), key=lambda measured: measured.made, reverse=True)


@st.cache_resource(max_entries=8, show_spinner=False)
def _kept_measurements(key: tuple, stamps: tuple, _run: Run) -> list[Measurement]:
    from dashboard.parts.quantize.measured import from_records

    return from_records(_run.evaluations())
