"""The Learn page: seven steps, each with a formula, a prediction and its answer, and a way to the working page."""

from __future__ import annotations

import pytest

from dashboard.charts.lecture import LETTERS
from dashboard.parts.learn.lesson_facts import half_of_work
from dashboard.parts.learn.lessons import LESSONS
from dashboard.words.glossary import TERMS, explain, found, terms
from mode_core.importance import frequencies
from mode_core.run import Run
from tests.app.conftest import NAME, payloads, words
from tests.app.test_states import on_page
from tests.synthetic import synthetic_statistics
from tests.synthetic_evidence import synthetic_evidence
from tests.synthetic_run import keep_run, without_vision


@pytest.mark.parametrize("step", range(1, 8))
def test_every_step_opens_by_its_link_and_has_a_formula(open_app, step: int):
    app = open_app("learn", step=str(step))
    assert not app.exception
    assert app.title[0].value == LESSONS[step - 1].title
    assert len(app.latex) == 1
    assert "$" in words(app)  # its symbols, explained


def test_the_answer_comes_with_the_guess_and_is_that_of_the_run(open_app, tiny_runs):
    app = open_app("learn", bank="0")
    assert "do half of it" not in words(app)
    shares = next(iter(frequencies(Run.open(tiny_runs / NAME).statistics).values())).all
    guess = app.segmented_control(key="learn:guess:router")
    guess.set_value(guess.options[0]).run()
    assert not app.exception
    assert f"**{half_of_work(shares)} of 8** do half of it" in words(app)


@pytest.mark.parametrize("step", [2, 3, 4, 5, 6])
def test_every_guess_is_answered(open_app, step: int):
    app = open_app("learn", step=str(step))
    key = f"learn:guess:{LESSONS[step - 1].key}"
    guess = app.segmented_control(key=key)
    guess.set_value(guess.options[-1]).run()
    assert not app.exception
    assert "Right." in words(app) or "You said" in words(app)
    assert any(
        f"{label}**" in words(app)
        for label in ("On this run it is otherwise.", "On this run too.", "Not settled on this run.")
    )


@pytest.mark.parametrize("step", range(1, 8))
def test_the_button_opens_the_working_page(open_app, step: int):
    lesson = LESSONS[step - 1]
    app = open_app("learn", step=str(step))
    app.button(key=f"open:{lesson.key}").click().run()
    assert not app.exception
    assert app.title[0].value == lesson.page.capitalize()


def test_steps_move_without_the_browser(open_app, monkeypatch):
    monkeypatch.setenv("MODE_CONTROLS", "plain")
    app = open_app("learn")
    app.segmented_control(key="learn-steps-plain").set_value(4).run()
    assert app.title[0].value == "Some experts are hurt more" and dict(app.query_params)["step"] in ("5", ["5"])


def test_next_and_back_lead_through_all_lessons(open_app):
    app = open_app("learn", step="1")
    assert app.button(key="learn:Back").disabled
    for step in range(2, len(LESSONS) + 1):
        app.button(key="learn:Next").click().run()
        assert app.query_params["step"] == str(step) and app.title[0].value == LESSONS[step - 1].title
    assert app.button(key="learn:Next").disabled
    app.button(key="learn:Back").click().run()
    assert app.title[0].value == LESSONS[-2].title


def test_what_the_run_contradicts_is_said_before_the_guess_and_its_numbers_after(places):
    """Four experts of which a token visits two: not the lesson's "only a few of them"."""
    keep_run(places / "runs" / "small", synthetic_statistics(2, 4, tokens=2000))
    app = on_page("learn", run="small")
    assert "On this run it is otherwise.** Your guess shows in what" in words(app) and "visits 2 of 4" not in words(app)
    guess = app.segmented_control(key="learn:guess:router")
    guess.set_value(guess.options[0]).run()
    assert not app.exception and "On this run it is otherwise.** Each token visits 2 of 4 experts." in words(app)


def test_lecture_mode_is_part_of_the_address(open_app):
    app = open_app("learn", lecture="on")
    metas = [sent["figure"]["layout"]["meta"] for sent in payloads(app) if "figure" in sent]
    assert metas and all(meta["letters"] == LETTERS for meta in metas)
    app.toggle(key="widget:place:lecture").set_value(False).run()
    assert "lecture" not in app.query_params and not app.exception
    assert not any("letters" in sent["figure"]["layout"]["meta"] for sent in payloads(app) if "figure" in sent)
    app.toggle(key="widget:place:lecture").set_value(True).run()
    assert app.query_params["lecture"] in ("on", ["on"])


def test_evidence_is_told_with_its_interval(places):
    run = keep_run(places / "runs" / "measured", synthetic_statistics(2, 8, tokens=2000))
    synthetic_evidence(run.statistics).save(run.path / "evidence")
    app = on_page("learn", run="measured", step="7")
    app.segmented_control(key="learn:guess:evidence").set_value("surely worse").run()
    assert not app.exception
    assert "MODE **is surely better than** frequency of all tokens there: -0.02 nats (-0.035 to -0.005)" in words(app)
    assert "On this run too.** MODE is surely better than frequency of all tokens in" in words(app)


def test_without_evidence_the_last_step_says_how_to_measure_it(open_app):
    app = open_app("learn", step="7")
    assert "Nothing was measured in this run yet" in app.info[0].value
    assert app.code[0].value.startswith("python -m mode_core compare --runs")


def test_a_text_only_run_says_what_it_cannot_show(places, monkeypatch):
    monkeypatch.setenv("MODE_CONTROLS", "plain")
    keep_run(places / "runs" / "text", without_vision(synthetic_statistics(2, 8, tokens=2000)))
    app = on_page("learn", run="text")
    asked = {}
    for place, lesson in enumerate(LESSONS):
        app.segmented_control(key="learn-steps-plain").set_value(place).run()
        assert not app.exception, lesson.key
        asked[lesson.key] = any(control.key == f"learn:guess:{lesson.key}" for control in app.segmented_control)
    assert asked["router"] and asked["sensitivity"] and asked["program"]  # these need no picture
    assert not (asked["frequency"] or asked["redundancy"] or asked["denoised"] or asked["evidence"])


def test_the_glossary_explains_every_term_and_is_searched():
    assert explain("key ratio") == TERMS["key ratio"]
    assert explain("load", "fold").startswith("**load**: ") and "**fold**: " in explain("load", "fold")
    assert list(found("Jaccard")) == ["Jaccard overlap"] and len(found("")) == len(terms()) > len(TERMS)
    with pytest.raises(KeyError):
        explain("no such term")
