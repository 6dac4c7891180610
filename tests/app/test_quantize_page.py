"""Quantize and measure for real on the tiny model; results are kept, and marked stale when settings change."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from types import SimpleNamespace

from dashboard.jobs import shelf as shelves
from dashboard.jobs import work
from dashboard.parts.quantize import asking, measuring, verdict
from dashboard.state import folders, process_wide
from dashboard.state.measured import Measurement, measurements_of, read_records
from mode_core.evaluation import Answer, ScoredAnswer, Scores, ask
from mode_core.jobs import check
from mode_core.run import Run
from tests.app.conftest import NAME, finish, words
from tests.app.test_states import on_page


def kept_measurements() -> list[Measurement]:
    return measurements_of(read_records(Run.open(folders.runs_folder() / NAME).evaluations(), {}), {})


def test_measure_keep_and_mark_stale(open_app):
    app = open_app("quantize")
    assert not app.exception
    assert "Nothing has been measured" in words(app)
    app.slider(key="quantize:items").set_value(32)
    finish(app.button(key="quantize:go").click().run())
    assert not app.exception and not app.error, [error.value for error in app.error]
    labels = [metric.label for metric in app.metric]
    assert "Accuracy, original" in labels and any(label.startswith("Accuracy, uniform 3") for label in labels)
    assert "Out of date" not in words(app)
    [kept] = kept_measurements()
    assert kept.measured_bytes["allocation"] == kept.predicted_bytes["allocation"]
    assert len(kept.scores["original"].answers) == 32

    changed = open_app("quantize", bits="2.5")
    assert "Out of date" in words(changed)
    assert "3 bits on average" in words(changed)


def test_a_conversation_with_all_three(places):
    """Two turns on the bundled model, for real: what each is told holds its own answers; the codes are kept."""
    app = on_page("quantize", bits="1.5", widths="1,2,3,4")
    finish(app.button(key="ask:go").click().run())
    assert not app.exception and not app.error
    captions = [caption.value for caption in app.caption]
    assert {"original", "this allocation"} <= {*captions} and any(text.startswith("uniform ") for text in captions)
    packed = list(shelves.SHELF._packed.values())
    assert len(packed) == 2 and not any(one.applied for one in packed)

    app.text_input(key="ask:question:1:").set_value("what colour is the circle?").run()
    finish(app.button(key="ask:go").click().run())
    assert not app.exception and not app.error and list(shelves.SHELF._packed.values()) == packed
    first, second = app.session_state[asking.TURNS]
    loaded = shelves.SHELF.get(str(Run.open(folders.BUNDLED_RUN).model_source))
    told = asking.samples_of((first, replace(second, answers=None)))
    assert [m["role"] for m in told["original"].messages] == ["user", "assistant", "user"]
    for model in ("allocation", "uniform"):
        assert told[model].messages[1]["content"] == first.answers[model].text
    assert second.answers["original"] == ask(loaded, told["original"])
    with packed[0]:
        assert second.answers["allocation"] == ask(loaded, told["allocation"])

    app.button(key="ask:new").click().run()
    assert not app.exception and app.session_state[asking.TURNS] == ()


def test_the_shelf_keeps_the_last_two_allocations(monkeypatch):
    monkeypatch.setattr(
        shelves.quantization, "quantize_experts", lambda loaded, *_, **__: SimpleNamespace(loaded=loaded)
    )
    shelf, model = shelves.ModelShelf(), object()
    first, *_ = (shelf.quantized(model, None, seal, None, None, None, None) for seal in ("a", "b", "a", "c"))
    assert list(shelf._packed) == ["a", "c"] and shelf._packed["a"] is first
    assert shelf.quantized(object(), None, "a", None, None, None, None) is not first  # another model


def test_a_question_that_was_cancelled_is_taken_back(open_app, monkeypatch):
    app = open_app("quantize")
    release = threading.Event()
    monkeypatch.setattr(work, "ask", lambda *_, cancel, **__: release.wait(20) and check(cancel))
    app.button(key="ask:go").click().run()
    assert "Asking …" in words(app)
    process_wide.jobs().get(app.query_params["job"]).cancel.set()
    release.set()
    finish(app)
    assert not app.exception and app.session_state[asking.TURNS] == () and "Asking …" not in words(app)


def test_an_answer_is_escaped_and_underlined_from_where_it_parts():
    one, other = Answer("a <b>", ("a", " <b>"), (0.9, 0.5)), Answer("a c", ("a", " c"), (0.8, 0.7))
    shown = asking.said(one, other)
    assert "<b>" not in shown and "> &lt;b&gt;</span></u>" in shown
    assert "parts at token 1" in shown and "50 %" in shown and "<u>" not in asking.said(one, one)
    assert "red green" in re.sub("<[^>]*>", "", asking.said(Answer("red green", ("red", "green"), (1, 1)), one))
    assert "ends earlier" in asking.said(Answer("a", ("a",), (1.0,)), one)


def test_a_missing_model_is_named_and_the_buttons_are_off(open_app, monkeypatch, tmp_path):
    monkeypatch.setattr(Run, "model_source", str(tmp_path / "gone"))
    app = open_app("quantize")
    assert not app.exception
    assert "not on this machine" in words(app)
    assert app.button(key="quantize:go").disabled and app.button(key="ask:go").disabled


def test_gptq_with_attention_is_measured_and_thin_experts_are_named(open_app):
    app = open_app("quantize", quantizer="gptq", attention="4")
    assert not app.exception
    assert "Second order" in words(app)
    app.slider(key="quantize:items").set_value(32)
    finish(app.button(key="quantize:go").click().run())
    assert not app.exception and not app.error, [error.value for error in app.error]
    [kept] = [found for found in kept_measurements() if found.settings["quantizer"]["method"] == "gptq"]
    assert kept.measured_bytes["allocation"] == kept.predicted_bytes["allocation"]
    assert "Out of date" in words(open_app("quantize", quantizer="rtn", attention="4"))


def test_where_answers_part():
    from dashboard.parts.quantize.asking import first_difference

    assert first_difference(["a", "b"], ["a", "b"]) is None
    assert first_difference(["a", "c"], ["a", "b"]) == 1
    assert first_difference(["a"], ["a", "b"]) == 1 and first_difference(["a", "b"], ["a"]) == 1


def kept_measurement(places, ours: list[str], theirs: list[str], made: float = 1.0, seal: str = "seal") -> None:
    """A measurement on the first bundled items with a picture, kept in the run: what each model said to them."""
    items = [sample for sample in measuring.answerable() if len(sample.images) == 1][: len(ours)]
    said = {"original": ["as before"] * len(items), "allocation": ours, "uniform": theirs}
    far = {"original": None, "allocation": 0.1, "uniform": 0.3}

    def scores(model: str) -> Scores:
        rows = zip(items, said[model], strict=True)
        return Scores(tuple(
            ScoredAnswer(one.id, "vision", "t", one.text, "as before", text, text == "as before", far[model])
            for one, text in rows
        ))  # fmt: skip

    sizes = {"original": 1600, "allocation": 300_000, "uniform": 310_000}
    request = {"method": "mode", "key_ratio": 0.2, "budget": 3.0, "widths": [2, 3, 4]}
    one = Measurement({model: scores(model) for model in said}, sizes, sizes, 3.0, seal, {"request": request}, made)
    for name, record in one.records().items():
        Run.open(places / "runs" / NAME).save_evaluation(name, record)


def test_the_verdict_stands_on_top_and_the_items_that_broke_below(open_app, places):
    kept_measurement(places, ["as before"] * 8, ["other"] * 2 + ["as before"] * 6)
    app = open_app("quantize")
    assert not app.exception
    [told] = [box.value for box in app.info if "against" in box.value]  # of other settings, so it takes no side
    assert told.startswith("Of other settings") and "300 kB" in told and "310 kB" in told and "on 8 items" in told
    assert "**surely better by distance to the original** (KL -0.2 nats, -0.2 to -0.2)" in told
    assert "**not told apart by exact answers** (+25.0 points" in told and "only 2 of 8 items differ" in told
    who = app.segmented_control(key="broken:who")
    assert who.options == ["All that differ: 2", "This allocation parts: 0", "Uniform parts: 2", "Both part: 0"]
    assert words(app).count(":orange-background[other]") == 2
    assert [option.startswith("they part · ") for option in app.selectbox(key="ask:sample").options[:3]] == [
        True,
        True,
        False,
    ]


def test_the_history_leads_to_an_earlier_measurement(open_app, places):
    kept_measurement(places, ["as before"] * 8, ["other"] * 8, made=1.0, seal="older")
    kept_measurement(places, ["other"] * 8, ["as before"] * 8, made=2.0, seal="newer")
    app = open_app("quantize")
    assert "**surely worse by exact answers**" in "".join(box.value for box in app.info)
    app.session_state["quantize:shown"] = "older"
    app.run()
    assert not app.exception and "**surely better by exact answers**" in "".join(box.value for box in app.info)
    both = verdict.history(kept_measurements(), "newer")
    assert both["by answers"].tolist() == ["surely worse", "surely better"]
    assert both["present settings"].tolist() == [True, False]
