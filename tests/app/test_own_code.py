"""A model that comes with Python code of its own: refused in words that name the switch, run only where it is on."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from dashboard.jobs.shelf import ModelShelf
from dashboard.parts.quantize.asking import TURNS
from dashboard.state import folders, own_code, process_wide
from mode_core.calibration import CalibrationSettings
from mode_core.models import ModelError
from mode_core.run import Run
from tests.app.conftest import finish, words
from tests.app.test_export_page import take


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A small model that is loaded as real code of its own."""
    from tests.families.making import save_family

    return save_family("kimi_vl", tmp_path_factory.mktemp("own") / "kimi_vl")


@pytest.fixture(scope="module")
def own_run(folder: Path, tmp_path_factory) -> Path:
    """A run of that model, as someone else might have made it; its run.json tells of trust, and is not believed."""
    from mode_core.calibration import calibrate
    from mode_core.models import load_model
    from mode_core.samples import Sample

    asked = [Sample((), ({"role": "user", "content": f"is it {n} ?"},), "yes", id=f"s{n}") for n in "123"]
    run = Run.create(tmp_path_factory.mktemp("own-run") / "theirs", trust_remote_code=True, trusted=True)
    settings = CalibrationSettings(bits=(2, 3, 4), group_size=16)
    calibrate(load_model(folder, device="cpu", trust_remote_code=True), asked, settings, run=run)
    return run.path


@pytest.fixture
def open_own(open_app, places: Path, own_run: Path):
    """A page on that run, in a session of its own."""
    (places / "runs" / "theirs").symlink_to(own_run)
    return lambda page: open_app(page, run="theirs")


def the_switch(app):
    [found] = [toggle for toggle in app.toggle if toggle.label == own_code.SWITCH]
    return found


def switches(app) -> int:
    return sum(toggle.label == own_code.SWITCH for toggle in app.toggle)


def test_calibrate_refuses_without_the_switch_and_loads_with_it(open_app, folder: Path, places: Path):
    app = open_app("calibrate")
    assert switches(app) == 0  # the bundled model needs none
    app.segmented_control(key="calibrate:model").set_value("Folder").run()
    app.text_input(key="calibrate:folder").set_value(str(folder)).run()
    app.slider(key="samples:count:Bundled samples").set_value(2).run()
    [refused] = [error.value for error in app.error]
    assert "comes with Python code of its own" in refused and f"“{own_code.SWITCH}”" in refused
    assert "under Model on the Calibrate page" in refused and "--trust-remote-code" not in refused
    assert "with kimi_vl: modeling_doubles.py" in words(app) and "with all rights of the dashboard" in words(app)
    assert not the_switch(app).value and app.button(key="calibrate:start").disabled

    the_switch(app).set_value(True).run()
    assert not app.error and not app.exception and "tokens** (counted)" in words(app)
    assert "Memory, estimate: " in words(app)
    app.text_input(key="calibrate:name").set_value("own").run()
    finish(app.button(key="calibrate:start").click().run())
    assert not app.error and not app.exception
    run = Run.open(places / "runs" / "own")
    assert len(run.statistics.samples) == 2 and run.info["model"]["class"] == "KimiVLForConditionalGeneration"
    assert "trust" not in json.dumps(dict(run.info)) and not [key for key in app.query_params if "trust" in key]

    app.text_input(key="calibrate:folder").set_value(str(folders.BUNDLED_MODEL)).run()
    assert switches(app) == 0  # the leave is that model's alone
    app.text_input(key="calibrate:folder").set_value(str(folder)).run()
    assert the_switch(app).value
    the_switch(app).set_value(False).run()
    assert "comes with Python code of its own" in words(app) and app.button(key="calibrate:start").disabled


def test_a_hub_id_has_the_switch_and_its_job_names_it(open_app, folder: Path, monkeypatch):
    from mode_core.models import loading

    monkeypatch.setattr(loading, "_fetched", lambda source, trusted: folder)  # what the hub would give
    app = open_app("calibrate")
    app.segmented_control(key="calibrate:model").set_value("Hub id").run()
    app.text_input(key="calibrate:hub").set_value("owner/name").run()
    assert not the_switch(app).value and "all rights" not in words(app)  # its words are in the tooltip until it is on
    app.slider(key="samples:count:Bundled samples").set_value(1).run()
    finish(app.button(key="calibrate:start").click().run())
    assert "owner/name comes with Python code of its own" in words(app) and own_code.SWITCH in words(app)
    the_switch(app).set_value(True).run()
    assert "Python code comes with owner/name" in words(app)
    finish(app.button(key="calibrate:start").click().run())
    assert process_wide.jobs().get(app.query_params["job"]).state == "done"


def test_a_run_of_such_a_model_brings_no_leave_to_quantize(open_own, monkeypatch):
    def named(loaded, sample, cancel):  # the double cannot generate
        return SimpleNamespace(text=type(loaded.model).__name__, tokens=["a"], probabilities=[1.0])

    monkeypatch.setattr("mode_core.evaluation.ask", named)
    app = open_own("quantize")
    assert not app.exception and not the_switch(app).value
    finish(app.button(key="ask:go").click().run())
    assert any(f"“{own_code.SWITCH}”" in error.value for error in app.error)
    the_switch(app).set_value(True).run()
    finish(app.button(key="ask:go").click().run())
    assert not app.exception
    assert app.session_state[TURNS][0].answers["original"].text == "KimiVLForConditionalGeneration"
    assert not the_switch(open_own("quantize")).value  # another session begins without


def test_export_asks_again_where_it_needs_the_model(open_own, places: Path):
    app = open_own("export")
    take(app, "table")
    assert switches(app) == 0
    take(app, "dequantized")
    finish(app.button(key="export:write").click().run())
    assert any(f"“{own_code.SWITCH}”" in error.value for error in app.error)
    the_switch(app).set_value(True).run()
    assert any("--trust-remote-code" in code.value for code in app.code)
    finish(app.button(key="export:write").click().run())
    job = process_wide.jobs().get(app.query_params["job"])
    assert job.state == "done", job.error


def test_where_folders_are_limited_no_other_code_is_run(open_own, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("MODE_MODELS", str(tmp_path))
    app = open_own("quantize")
    assert switches(app) == 0 and f"models below {tmp_path} only" in words(app)


def test_the_shelf_tells_a_trusted_load_from_an_untrusted_one(folder: Path):
    shelf = ModelShelf()
    trusted = shelf.get(str(folder), trusted=True)
    assert shelf.get(str(folder), trusted=True) is trusted
    with pytest.raises(ModelError, match=f"“{own_code.SWITCH}”"):
        shelf.get(str(folder))


def test_what_counts_as_code_of_its_own(tmp_path: Path, tiny_model_folder: Path):
    assert own_code.own_code(str(tiny_model_folder)) is None
    (tmp_path / "config.json").write_text('{"model_type": "qwen3_vl_moe"}')
    (tmp_path / "helper.py").write_text("")
    assert own_code.own_code(str(tmp_path)) is None  # a file that nothing names is not run
    (tmp_path / "processor_config.json").write_text(
        '{"image_processor": {"auto_map": {"AutoImageProcessor": "other/place--eyes.Eyes", "AutoProcessor": null}}}'
    )
    assert own_code.own_code(str(tmp_path)) == own_code.OwnCode(("helper.py",), ("other/place",))
    (tmp_path / "processor_config.json").write_text("{")  # damaged: told when the model is loaded
    assert own_code.own_code(str(tmp_path)) is None
    (tmp_path / "custom_generate").mkdir()
    (tmp_path / "custom_generate" / "generate.py").write_text("")
    assert own_code.own_code(str(tmp_path)).files == ("custom_generate/generate.py", "helper.py")
    (tmp_path / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["own.Slow", null]}}')
    assert own_code.own_code(str(tmp_path)).elsewhere == ()
    for odd in ('{"auto_map": 3}', '{"auto_map": {"AutoModel": [3, {}]}}', '{"a":' * 900 + "1" + "}" * 900):
        (tmp_path / "tokenizer_config.json").write_text(odd)
        assert own_code.own_code(str(tmp_path)).elsewhere == ()
