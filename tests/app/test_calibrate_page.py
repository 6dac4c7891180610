"""Calibrate from the page: bundled and uploaded samples, errors by file, a job, cancel, and the run that opens."""

from __future__ import annotations

import io
import time
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from dashboard.state import folders, process_wide
from mode_core.run import Run
from mode_core.samples import read_samples
from tests.app.conftest import finish, words


def png(colour: str) -> bytes:
    held = io.BytesIO()
    Image.new("RGB", (48, 32), colour).save(held, "PNG")
    return held.getvalue()


@pytest.fixture
def with_model(open_app, tiny_model_folder: Path):
    """The page with the tiny model's folder filled in."""

    def opened(source: str):
        app = open_app("calibrate")
        app.segmented_control(key="calibrate:model").set_value("Folder").run()
        app.text_input(key="calibrate:folder").set_value(str(tiny_model_folder)).run()
        app.segmented_control(key="samples:source").set_value(source).run()
        return app

    return opened


def test_bundled_samples_become_the_open_run(with_model):
    app = with_model("Bundled samples")
    app.slider(key="samples:count:Bundled samples").set_value(6).run()
    app.text_input(key="calibrate:name").set_value("mine").run()
    assert not app.exception and not app.error
    assert "tokens** (counted)" in words(app)
    app.button(key="calibrate:start").click().run()
    finish(app)
    assert not app.exception and not app.error, [error.value for error in app.error]
    assert app.query_params["run"] == "mine"
    run = Run.open(folders.runs_folder() / "mine")
    assert len(run.statistics.samples) == 6 and run.statistics.bits == (1, 2, 3, 4)
    assert "finished and open" in words(app)
    app.selectbox(key="widget:run").set_value("tiny").run()  # another run may be looked at afterwards
    assert app.query_params["run"] in ("tiny", ["tiny"]) and "is finished. It took" in words(app)


def test_own_pictures_with_questions_keep_the_good_and_name_the_bad(with_model):
    app = with_model("Own pictures")
    files = [("red.png", png("red"), "image/png"), ("broken.png", b"no picture", "image/png")]
    app.file_uploader(key="uploader:pictures:0").set_value(files).run()
    app.text_input(key="samples:question:red.png").set_value("what colour is it ?").run()
    assert not app.exception
    assert "1 could not be used. The other 1 samples are kept." in words(app) and "broken.png" in words(app)
    assert not app.button(key="calibrate:start").disabled


def test_a_table_with_its_pictures(with_model):
    app = with_model("Own file")
    line = '{"images": ["red.png"], "messages": [{"role": "user", "content": "<image>what is it ?"}]}\n'
    bad = '{"images": ["gone.png"], "messages": [{"role": "user", "content": "<image>what is it ?"}]}\n'
    files = [("samples.jsonl", (line + bad).encode(), "application/json"), ("red.png", png("red"), "image/png")]
    app.file_uploader(key="uploader:files:0").set_value(files).run()
    assert not app.exception
    assert "samples.jsonl, line 2" in words(app) and "gone.png" in words(app)
    assert not app.button(key="calibrate:start").disabled


def test_a_folder_without_a_model_is_refused(open_app, tmp_path: Path):
    app = open_app("calibrate")
    app.segmented_control(key="calibrate:model").set_value("Folder").run()
    app.text_input(key="calibrate:folder").set_value(str(tmp_path)).run()
    assert not app.exception
    assert "config.json" in words(app) and app.button(key="calibrate:start").disabled


def test_cancel_keeps_what_was_measured(with_model):
    app = with_model("Bundled samples")
    app.number_input(key="calibrate:batch").set_value(1)
    app.text_input(key="calibrate:name").set_value("half").run()
    app.button(key="calibrate:start").click().run()
    job = process_wide.jobs().get(app.query_params["job"])
    while job.active and (job.progress is None or "sample" not in job.progress.what or job.progress.fraction < 0.2):
        time.sleep(0.01)
    job.cancel.set()
    finish(app)
    assert job.state == "cancelled"
    assert "half-done run" in words(app) and app.query_params["run"] == "half"
    assert len(Run.open(folders.runs_folder() / "half").statistics.samples) > 0


def test_a_name_that_is_taken_is_refused(open_app):
    app = open_app("calibrate")
    app.text_input(key="calibrate:name").set_value("tiny").run()
    assert "already" in words(app) and app.button(key="calibrate:start").disabled


def test_all_runs_are_listed(open_app):
    app = open_app("calibrate")
    table = next(frame.value for frame in app.dataframe if "state" in frame.value)
    assert "tiny" in table["run"].tolist() and "bundled example" in table["run"].tolist()
    assert "Choose one run to open, rename" in words(app)


def archive(**files: bytes) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as opened:
        for name, data in files.items():
            opened.writestr(name, data)
    return held.getvalue()


def test_two_uploads_of_one_name_are_told_of(with_model):
    asked = '{"image": "%s/1.png", "question": "what ?"}\n'
    table = ("samples.jsonl", "".join(asked % folder for folder in ("train", "val")).encode(), "application/json")
    app = with_model("Own file")
    twice = [("1.png", png("red"), "image/png"), ("1.png", png("blue"), "image/png")]
    app.file_uploader(key="uploader:files:0").set_value([table, *twice]).run()
    assert not app.exception
    assert "Two different files are called 1.png; neither is used." in words(app) and "into one zip" in words(app)
    assert app.button(key="calibrate:start").disabled
    app.segmented_control(key="samples:source").set_value("Own pictures").run()
    hostile = [("![x](http:evil).png", content, kind) for _, content, kind in twice]
    app.file_uploader(key="uploader:pictures:0").set_value(hostile).run()
    assert "Two different files are called ![x](http:evil).png; the second one was left out" in words(app)
    assert not any("![x](" in error.value for error in app.error), "a name is text"
    assert not app.button(key="calibrate:start").disabled


def test_one_picture_for_two_paths_is_the_picture_of_neither(with_model):
    asked = '{"image": "%s/1.png", "question": "what ?"}\n'
    table = ("samples.jsonl", "".join(asked % folder for folder in ("train", "val")).encode(), "application/json")
    app = with_model("Own file")
    app.file_uploader(key="uploader:files:0").set_value([table, ("1.png", png("red"), "image/png")]).run()
    assert "train/1.png and val/1.png would both be the one file 1.png" in words(app)
    assert app.button(key="calibrate:start").disabled


def test_a_cut_off_picture_and_a_bad_zip_leave_the_page_standing(with_model, monkeypatch):
    noise = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(noise, "PNG")
    lines = "".join(f'{{"image": "{name}.png", "question": "what ?"}}\n' for name in ("cut", "red"))
    good = archive(**{"samples.jsonl": lines.encode(), "cut.png": noise.getvalue()[:1500], "red.png": png("red")})
    app = with_model("Own file")
    files = [("good.zip", good, "application/zip"), ("bad.zip", b"PK\x03\x04 no", "application/zip")]
    app.file_uploader(key="uploader:files:0").set_value(files).run()
    assert not app.exception and "bad.zip is not a readable zip" in words(app)
    assert "damaged" in words(app) and "2 with pictures (2 no task named)" in words(app)
    read_again = "dashboard.parts.calibrate.sample_picker.samples_from_uploads"
    monkeypatch.setattr(read_again, None)  # zips are unpacked once, not at every rerun
    app.text_input(key="calibrate:name").set_value("cut").run()
    assert not app.exception and "2 with pictures" in words(app)
    app.button(key="calibrate:start").click().run()
    finish(app)
    refused = Run.open(folders.runs_folder() / "cut").info["refused"]
    assert [entry["sample"][:3] for entry in refused] == ["bad", refused[1]["sample"][:3]] and len(refused) == 2
    assert "the picture is damaged" in refused[1]["reason"]


def test_the_page_draws_as_the_command_line_does_and_shows_the_mix(with_model):
    app = with_model("Bundled samples")
    app.slider(key="samples:count:Bundled samples").set_value(6).run()
    drawn = read_samples(folders.CALIBRATION, limit=6)
    assert sum(not sample.images for sample in drawn) == 3
    app.text_input(key="calibrate:name").set_value("drawn").run()
    assert "3 with pictures (" in words(app) and "3 without pictures (" in words(app)
    app.button(key="calibrate:start").click().run()
    finish(app)
    run = Run.open(folders.runs_folder() / "drawn")
    assert list(run.statistics.samples) == [sample.id for sample in drawn]
    assert run.info["samples"]["drawn"] == {"by": "task and picture", "seed": 0, "of": 192}
