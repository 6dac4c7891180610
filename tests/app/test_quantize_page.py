"""Quantize and measure for real on the tiny model; results are kept, and marked stale when settings change."""

from __future__ import annotations

from dashboard.parts.quantize.measured import Measurement, measurements_of, read_records
from dashboard.state import folders
from mode_core.run import Run
from tests.app.conftest import NAME, finish, words


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


def test_ask_all_three(open_app):
    app = open_app("quantize")
    app.button(key="ask:go").click().run()
    finish(app)
    assert not app.exception and not app.error
    captions = [caption.value for caption in app.caption]
    assert {"original", "this allocation"} <= {*captions}
    assert any(caption.startswith("uniform ") for caption in captions)


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
