"""Long work with progress, time left and cancel; one worker thread, no user interface.

Anything long in `mode_core` takes `progress` and `cancel`:

    def calibrate(..., progress: ProgressHook | None = None, cancel: Cancel | None = None)

`progress` is called with a `Progress` as the work goes on; `cancel` is asked between steps, and where it
is set the work raises `Cancelled` after keeping what it has. The command line draws a bar from the same
hook from which the dashboard draws its panel.
"""

from __future__ import annotations

import secrets
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from mode_core.errors import ModeError, in_words

PATIENCE = 12 * 3600.0  # seconds that a job goes on with nobody looking at it


@dataclass(frozen=True)
class Progress:
    """How far one piece of work has come: `done` of `total` steps, in words, and seconds since its start. `left`:
    seconds that it still takes, where that is known better than from the mean pace."""

    done: int
    total: int
    what: str
    seconds: float = 0.0
    left: float | None = None

    @property
    def fraction(self) -> float:
        """Share done, 0 to 1; a total of 0 counts as not begun."""
        return min(1.0, self.done / self.total) if self.total else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Estimate of the seconds left, from the mean pace so far where `left` is not given; None before the first
        step."""
        if self.left is not None:
            return self.left
        return None if self.done == 0 else self.seconds / self.done * (self.total - self.done)


ProgressHook = Callable[[Progress], None]


class Cancel(Protocol):
    """Anything with `is_set()`; a `threading.Event` serves."""

    def is_set(self) -> bool: ...


class TooManyJobs(ModeError):
    """So much waits already that nothing more is taken; the text says what to do."""


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
    """One piece of long work. `state` goes waiting → running → done | failed | cancelled.

    `owners` are the visitors that may see it: who asked for it, and whoever found it by its id, which nobody can guess.
    `seen` is when one of them last looked (`time.monotonic`).
    """

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
    owners: set[str] = field(default_factory=set)
    seen: float = field(default_factory=time.monotonic)

    @property
    def active(self) -> bool:
        """True until the work has ended, in whatever way."""
        return self.state in ("waiting", "running")


class JobQueue:
    """Runs jobs one after another on a single worker thread, and remembers the last `keep` of every owner.

    A job that none of its owners looked at for `patience` seconds is cancelled, and one that ended is forgotten.
    Memory: the results of what is remembered. Thread-safe.
    """

    def __init__(self, keep: int = 16, most: int = 16, most_of_one: int = 4, patience: float = PATIENCE):
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mode-job")
        self._keep, self._most, self._most_of_one, self._patience = keep, most, most_of_one, patience

    def submit(
        self, title: str, kind: str, work: Callable[..., Any], *args: Any, owner: str = "", **kwargs: Any
    ) -> Job:
        """Queue `work(*args, progress=…, cancel=…, **kwargs)` and return its `Job` at once.

        Raises:
            TooManyJobs: the queue, or the part of it that one owner may fill, is full.
        """
        job = Job(secrets.token_urlsafe(12), title, kind, owners={owner})
        with self._lock:
            active = [other for other in self._jobs.values() if other.active]
            if sum(owner in other.owners for other in active) >= self._most_of_one or len(active) >= self._most:
                raise TooManyJobs(
                    f"{len(active)} jobs wait or run already, of at most {self._most}, and {self._most_of_one} for one "
                    "visitor. Wait until one has ended, or cancel one of yours."
                )
            self._jobs[job.id] = job
            self._forget(owner)
        self._pool.submit(self._run, job, work, args, kwargs)
        return job

    def _forget(self, owner: str) -> None:
        ended = sorted((job for job in self._jobs.values() if not job.active), key=lambda job: job.created)
        own = [job for job in ended if owner in job.owners]
        surplus = max(0, sum(owner in job.owners for job in self._jobs.values()) - self._keep)
        for old in [*own[:surplus], *filter(self._abandoned, ended)]:
            self._jobs.pop(old.id, None)

    def _abandoned(self, job: Job) -> bool:
        return time.monotonic() - job.seen > self._patience

    def get(self, job_id: str | None, owner: str | None = None) -> Job | None:
        """The job of that id, or None where it is unknown or long forgotten; it is `owner`'s too from then on."""
        with self._lock:
            job = self._jobs.get(job_id) if job_id else None
            if job is not None and owner is not None:
                job.owners.add(owner)
                job.seen = time.monotonic()
            return job

    def of(self, owner: str) -> list[Job]:
        """The remembered jobs of one owner, newest first, each counted as looked at."""
        found = [job for job in self.list() if owner in job.owners]
        for job in found:
            job.seen = time.monotonic()
        return found

    def list(self) -> list[Job]:
        """All remembered jobs, newest first."""
        with self._lock:
            return sorted(self._jobs.values(), key=lambda j: j.created, reverse=True)

    def _run(self, job: Job, work: Callable[..., Any], args: tuple, kwargs: dict) -> None:
        def hook(progress: Progress) -> None:
            job.progress = progress
            if self._abandoned(job):
                job.cancel.set()

        if job.cancel.is_set() or self._abandoned(job):
            job.state = "cancelled"
            return
        job.state = "running"

        try:
            job.result = work(*args, progress=hook, cancel=job.cancel, **kwargs)
            job.state = "done"
        except Cancelled as stopped:
            unseen = f"Nobody looked at it for {self._patience / 3600:.3g} hours. " if self._abandoned(job) else ""
            job.error, job.state = unseen + str(stopped), "cancelled"
        except Exception as failure:  # the worker must outlive any failure; the panel shows it whole
            job.error, job.trace, job.state = in_words(failure), traceback.format_exc(), "failed"
