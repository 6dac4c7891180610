"""Long work with progress, time left and cancel; one worker thread, no user interface.

Anything long in `mode_core` takes `progress` and `cancel`:

    def calibrate(..., progress: ProgressHook | None = None, cancel: Cancel | None = None)

`progress` is called with a `Progress` as the work goes on; `cancel` is asked between steps, and where it
is set the work raises `Cancelled` after keeping what it has. The command line draws a bar from the same
hook from which the dashboard draws its panel.
"""

from __future__ import annotations

import threading
import time
import traceback
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Progress:
    """How far one piece of work has come: `done` of `total` steps, in words, and seconds since its start."""

    done: int
    total: int
    what: str
    seconds: float = 0.0

    @property
    def fraction(self) -> float:
        """Share done, 0 to 1; a total of 0 counts as not begun."""
        return min(1.0, self.done / self.total) if self.total else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Estimate of the seconds left, from the mean pace so far; None before the first step."""
        return None if self.done == 0 else self.seconds / self.done * (self.total - self.done)


ProgressHook = Callable[[Progress], None]


class Cancel(Protocol):
    """Anything with `is_set()`; a `threading.Event` serves."""

    def is_set(self) -> bool: ...


class Cancelled(Exception):
    """The person asked to stop; what was measured so far has been kept."""


def check(cancel: Cancel | None) -> None:
    """Raise `Cancelled` if a stop was asked for."""
    if cancel is not None and cancel.is_set():
        raise Cancelled("Stopped on request; what was finished so far is kept.")


class Reporter:
    """Counts steps and hands `Progress` to a hook: `reporter.step("sample 3")`."""

    def __init__(self, hook: ProgressHook | None, total: int, cancel: Cancel | None = None, done: int = 0):
        self.hook, self.total, self.cancel, self.done = hook, total, cancel, done
        self.started = time.monotonic()

    def step(self, what: str, steps: int = 1) -> None:
        """Count `steps` more as done, tell the hook, and raise `Cancelled` where a stop was asked for."""
        self.done += steps
        if self.hook is not None:
            self.hook(Progress(self.done, self.total, what, time.monotonic() - self.started))
        check(self.cancel)


@dataclass
class Job:
    """One piece of long work. `state` goes waiting → running → done | failed | cancelled."""

    id: str
    title: str
    kind: str
    state: str = "waiting"
    progress: Progress | None = None
    result: Any = None
    error: str | None = None
    trace: str | None = None
    created: float = field(default_factory=time.time)
    cancel: threading.Event = field(default_factory=threading.Event)

    @property
    def active(self) -> bool:
        """True until the work has ended, in whatever way."""
        return self.state in ("waiting", "running")


class JobQueue:
    """Runs jobs one after another on a single worker thread, and remembers the last `keep` of them.

    Memory: the results of the `keep` newest jobs. Thread-safe.
    """

    def __init__(self, keep: int = 32):
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mode-job")
        self._keep = keep

    def submit(self, title: str, kind: str, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Job:
        """Queue `work(*args, progress=…, cancel=…, **kwargs)` and return its `Job` at once."""
        job = Job(uuid.uuid4().hex[:12], title, kind)
        with self._lock:
            self._jobs[job.id] = job
            ended = [j for j in self._jobs.values() if not j.active]
            for old in sorted(ended, key=lambda j: j.created)[: max(0, len(self._jobs) - self._keep)]:
                del self._jobs[old.id]
        self._pool.submit(self._run, job, work, args, kwargs)
        return job

    def get(self, job_id: str | None) -> Job | None:
        """The job of that id, or None where it is unknown or long forgotten."""
        with self._lock:
            return self._jobs.get(job_id) if job_id else None

    def list(self) -> list[Job]:
        """All remembered jobs, newest first."""
        with self._lock:
            return sorted(self._jobs.values(), key=lambda j: j.created, reverse=True)

    @staticmethod
    def _run(job: Job, work: Callable[..., Any], args: tuple, kwargs: dict) -> None:
        if job.cancel.is_set():
            job.state = "cancelled"
            return
        job.state = "running"

        def hook(progress: Progress) -> None:
            job.progress = progress

        try:
            job.result = work(*args, progress=hook, cancel=job.cancel, **kwargs)
            job.state = "done"
        except Cancelled as stopped:
            job.error, job.state = str(stopped), "cancelled"
        except Exception as failure:  # the worker must outlive any failure; the panel shows it whole
            job.error, job.trace, job.state = str(failure), traceback.format_exc(), "failed"
