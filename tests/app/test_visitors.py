"""What one visitor has going on is their own: jobs, measurements, leave for a model's code."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboard.state import process_wide, visitor
from mode_core.jobs import JobQueue
from tests.app.conftest import APP, words


@pytest.fixture
def elsewhere(monkeypatch):
    """What the door says of somebody at another machine; `elsewhere("yes")`: of somebody here."""

    def said(local: str = "no") -> None:
        told = {visitor.VISITOR: "v" * 22, visitor.LOCAL: local}
        headers = SimpleNamespace(to_dict=lambda: told, get=told.get)
        monkeypatch.setattr(visitor.st, "context", SimpleNamespace(headers=headers))

    return said


def waits(go, progress=None, cancel=None):
    go.wait(30)


def test_jobs_are_their_owners_and_no_cache_holds_them(open_app):
    mine, go = open_app("budget"), threading.Event()
    owner = mine.session_state["visitor"]
    job = process_wide.jobs().submit("Measuring secret-task", "measure:/nowhere", waits, go, owner=owner)
    try:
        st.cache_resource.clear()  # what `clear_cache` over the websocket does
        st.cache_data.clear()
        assert process_wide.jobs().get(job.id) is job
        assert [button.label for button in mine.run().button if button.key == f"watch:{job.id}"]
        other = AppTest.from_file(APP, default_timeout=120).run()
        assert other.session_state["visitor"] != owner and "secret" not in words(other)
        assert not [button for button in other.button if "secret" in button.label]
        found = AppTest.from_file(APP, default_timeout=120)
        found.query_params["job"] = job.id  # who has the link finds it
        assert "Working: Measuring secret-task" in words(found.run())
        assert found.session_state["visitor"] in job.owners
    finally:
        go.set()


def test_measurements_of_others_are_not_shown(monkeypatch):
    monkeypatch.setattr(process_wide, "run_entry", lambda: SimpleNamespace(path=Path("/run")))
    monkeypatch.setattr(process_wide, "run_key", lambda: ("/run", 0))
    monkeypatch.setattr(process_wide, "run", lambda: None)
    monkeypatch.setattr(process_wide, "_kept_scores", lambda *key: ([], {}, {}))
    queue, found = JobQueue(), SimpleNamespace(fingerprint="f", made=1.0)
    monkeypatch.setattr(process_wide, "_JOBS", queue)
    job = queue.submit("Measuring", "measure:/run", lambda progress, cancel: found, owner="me")
    while job.active:
        time.sleep(0.005)
    monkeypatch.setattr(process_wide, "visitor", lambda: "me")
    assert process_wide.measurements() == [found]
    monkeypatch.setattr(process_wide, "visitor", lambda: "you")
    assert process_wide.measurements() == []


def test_a_full_queue_is_said_on_the_page(open_app, monkeypatch):
    go = threading.Event()
    app = open_app("quantize")
    for number in range(4):
        process_wide.jobs().submit(str(number), "test", waits, go, owner=app.session_state["visitor"])
    try:
        app.button(key="ask:go").click().run()
        assert "4 jobs wait or run already" in words(app) and "job" not in app.query_params
    finally:
        go.set()


def test_from_elsewhere_no_leave_counts_unless_the_server_was_started_so(elsewhere, monkeypatch):
    monkeypatch.setattr(visitor.st, "session_state", {visitor.LEAVES: frozenset({"owner/name"})})
    elsewhere("yes")
    assert visitor.may_run("owner/name") and not visitor.may_run("owner/other") and not visitor.may_run(None)
    elsewhere("no")
    assert not visitor.may_run("owner/name")
    for odd in ("", "yes", "1"):
        monkeypatch.setenv("MODE_OWN_CODE", odd)
        assert not visitor.may_run("owner/name")
    monkeypatch.setenv("MODE_OWN_CODE", "anywhere")
    assert visitor.may_run("owner/name")
