"""Undo of the last setting, the doors of a first visit, and the log of jobs."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.state import address, process_wide
from tests.app.conftest import APP, finish, words


def undo(app):
    return app.sidebar.button(key="undo").click().run()


def test_undo_goes_back_setting_by_setting(open_app):
    app = open_app("budget", method="mode", bits="2.5")
    app.segmented_control(key="widget:scope").set_value("model").run()
    app.selectbox(key="widget:method").set_value("frequency").run()
    undo(app)
    request = app.session_state["choices"].request
    assert (request.method, request.scope, request.budget) == ("mode", "model", 2.5) and not app.exception
    assert app.toast[0].value == "Undone: method."
    undo(app)
    assert app.session_state["choices"].request.scope == "bank" and "scope" not in app.query_params
    undo(app)
    assert app.toast[0].value == "No setting was changed yet."


def test_the_steps_of_one_drag_are_one_setting_and_a_pause_ends_it(open_app, monkeypatch):
    monkeypatch.setenv("MODE_CONTROLS", "plain")
    now = [100.0]
    monkeypatch.setattr(address.time, "monotonic", lambda: now[0])
    app = open_app("budget", method="mode", bits="3")
    for bits in (2.9, 2.8, 2.7):
        now[0] += 0.2
        app.slider(key="average-bits-plain").set_value(bits).run()
    now[0] += 60
    app.slider(key="average-bits-plain").set_value(2.25).run()
    undo(app)
    assert app.session_state["choices"].request.budget == 2.7
    undo(app)
    assert app.session_state["choices"].request.budget == 3.0


def first_visit() -> AppTest:
    return AppTest.from_file(APP, default_timeout=120).run()


@pytest.mark.parametrize(("door", "title"), [("learn", None), ("stay", "Experts"), ("calibrate", "Calibrate")])
def test_a_first_visitor_reads_what_this_is_and_takes_a_door(places, door, title):
    app = first_visit()
    assert not app.exception and "Make a mixture-of-experts model" in words(app)
    app.button(key=f"door:{door}").click().run()
    assert not app.exception and "Make a mixture-of-experts model" not in words(app)
    assert title is None or app.title[0].value == title


def test_who_comes_by_a_link_stands_before_what_it_shows(open_app):
    assert "Make a mixture-of-experts model" not in words(open_app("experts"))


def test_jobs_are_logged_with_how_they_ended(open_app):
    def fail(progress, cancel):
        raise ValueError("it broke")

    app = open_app("budget")
    job = process_wide.jobs().submit("Trying it", "ask", fail)
    app.query_params["job"] = job.id
    app.session_state["place"] = app.session_state["place"] | {"job": job.id}
    finish(app)
    assert [one.label for one in app.sidebar.expander] == ["Jobs (1)"]
