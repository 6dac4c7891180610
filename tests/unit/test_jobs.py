"""Jobs: states, progress, cancel, and a worker that outlives a failure."""

import threading
import time

import pytest

from mode_core.jobs import Cancelled, Job, JobQueue, Progress, Reporter, TooManyJobs


def wait(job: Job, seconds: float = 5.0) -> Job:
    deadline = time.monotonic() + seconds
    while job.active and time.monotonic() < deadline:
        time.sleep(0.005)
    assert not job.active, f"{job.title} did not end"
    return job


def counting(steps: int, progress=None, cancel=None) -> int:
    reporter = Reporter(progress, steps, cancel)
    for step in range(steps):
        reporter.step(f"step {step}")
    return steps


def test_a_job_ends_done_with_its_result_and_last_progress():
    job = wait(JobQueue().submit("count", "test", counting, 3))
    assert (job.state, job.result, job.progress.done, job.progress.what) == ("done", 3, 3, "step 2")
    assert job.progress.fraction == 1.0


def test_a_failure_is_reported_and_the_worker_goes_on():
    queue = JobQueue()

    def fails(progress=None, cancel=None):
        raise ValueError("no such model")

    failed = wait(queue.submit("bad", "test", fails))
    assert failed.state == "failed"
    assert failed.error == "no such model"
    assert "ValueError" in failed.trace
    assert wait(queue.submit("good", "test", counting, 1)).state == "done"


def test_cancel_stops_between_steps_and_a_waiting_job_never_starts():
    queue, reached, go = JobQueue(), threading.Event(), threading.Event()

    def slow(progress=None, cancel=None):
        reached.set()
        go.wait(5)
        Reporter(progress, 2, cancel).step("one")
        raise AssertionError("went on after cancel")

    running, waiting = queue.submit("slow", "test", slow), queue.submit("next", "test", counting, 1)
    reached.wait(5)
    running.cancel.set()
    waiting.cancel.set()
    go.set()
    assert wait(running).state == "cancelled"
    assert "kept" in running.error
    assert wait(waiting).state == "cancelled"
    assert waiting.result is None


def test_only_the_newest_ended_jobs_are_remembered():
    queue = JobQueue(keep=2)
    jobs = [wait(queue.submit(str(number), "test", counting, 1)) for number in range(4)]
    assert queue.get(jobs[0].id) is None
    assert queue.get(jobs[-1].id) is jobs[-1]
    assert queue.get(None) is None


def test_others_push_nothing_of_mine_out_of_memory():
    queue = JobQueue(keep=2)
    mine = wait(queue.submit("mine", "test", counting, 1, owner="me"))
    for number in range(4):
        wait(queue.submit(str(number), "test", counting, 1, owner="you"))
    assert queue.of("me") == [mine] and len(queue.of("you")) == 2
    assert mine not in queue.of("you") and queue.of("nobody") == []


def test_who_has_the_id_has_the_job():
    queue = JobQueue()
    job = wait(queue.submit("mine", "test", counting, 1, owner="me"))
    assert len(job.id) >= 16 and queue.get(job.id, "you") is job
    assert queue.of("you") == queue.of("me") == [job]


def test_one_visitor_fills_a_part_of_the_queue_and_all_together_the_whole():
    queue, go = JobQueue(most=3, most_of_one=2), threading.Event()

    def waits(progress=None, cancel=None):
        go.wait(5)

    held = [queue.submit(str(number), "test", waits, owner="me") for number in range(2)]
    with pytest.raises(TooManyJobs, match=r"2 for one visitor.* cancel one of yours"):
        queue.submit("third", "test", waits, owner="me")
    held.append(queue.submit("yours", "test", waits, owner="you"))
    with pytest.raises(TooManyJobs, match="3 jobs wait or run already, of at most 3"):
        queue.submit("theirs", "test", waits, owner="they")
    go.set()
    for job in held:
        wait(job)
    assert wait(queue.submit("third", "test", counting, 1, owner="me")).state == "done"


def test_what_nobody_looks_at_is_cancelled_and_forgotten_and_looking_keeps_it():
    queue, go = JobQueue(patience=3600.0), threading.Event()

    def long(progress=None, cancel=None):
        go.wait(5)
        Reporter(progress, 2, cancel).step("one")
        return "whole"

    left, waiting, looked_at = (queue.submit(name, "test", long, owner=name) for name in "abc")
    for job in (left, waiting, looked_at):
        job.seen -= 3601
    queue.get(looked_at.id, "c")
    go.set()
    assert wait(left).state == wait(waiting).state == "cancelled" and waiting.progress is None
    assert left.error.startswith("Nobody looked at it for 1 hours.") and left.progress.done == 1
    assert wait(looked_at).result == "whole"
    wait(queue.submit("next", "test", counting, 1, owner="d"))
    assert queue.get(left.id) is None and queue.get(looked_at.id) is looked_at


def test_time_left_is_the_mean_pace_times_what_remains():
    assert Progress(2, 10, "x", seconds=4.0).seconds_left == 16.0
    assert Progress(0, 10, "x", seconds=4.0).seconds_left is None
    assert Progress(0, 0, "x").fraction == 0.0


def test_reporter_raises_cancelled_only_after_telling_the_hook():
    seen, cancel = [], threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        Reporter(seen.append, 2, cancel).step("first")
    assert [p.done for p in seen] == [1]
