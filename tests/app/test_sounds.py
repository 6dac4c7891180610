"""Samples with sound on the pages: uploaded, calibrated, allocated for and measured on the tiny Qwen3-Omni thinker."""

from __future__ import annotations

import io
import json
import zipfile

from dashboard.state import folders
from dashboard.state.measured import measurements_of, read_records
from mode_core.run import Run
from tests.app.conftest import ROOT, finish, words
from tests.app.test_calibrate_page import png
from tests.families.making import save_family
from tests.sounds import sound


def upload(app, kind: str, *files: tuple[str, bytes]):
    sent = [(name, content, "application/octet-stream") for name, content in files]
    return app.file_uploader(key=f"uploader:{kind}:0").set_value(sent).run()


def archive() -> bytes:
    """A folder of samples as a zip: a sound, a sound with a picture, text."""
    rows = [
        {"audio": "sounds/a.wav", "question": "what is it ?", "answer": "red"},
        {"audio": "sounds/a.wav", "image": "p.png", "question": "what is it ?", "answer": "blue"},
        {"images": [], "question": "how many are there ?", "answer": "yes"},
    ]
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as opened:
        opened.writestr("mine/samples.jsonl", "\n".join(map(json.dumps, rows)))
        opened.writestr("mine/sounds/a.wav", sound(0.5, 440))
        opened.writestr("mine/p.png", png("red"))
    return held.getvalue()


def test_a_zip_with_sounds_goes_the_whole_road(open_app, tmp_path):
    app = open_app("calibrate")
    app.segmented_control(key="calibrate:model").set_value("Folder").run()
    app.text_input(key="calibrate:folder").set_value(str(save_family("qwen3_omni_moe_thinker", tmp_path / "omni")))
    app.segmented_control(key="samples:source").set_value("Own file").run()
    assert {".wav", ".flac", ".zip"} <= {*app.file_uploader(key="uploader:files:0").proto.type}
    upload(app, "files", ("mine.zip", archive()))
    assert "2 with sounds (2 no task named); 1 without pictures" in words(app)
    app.text_input(key="calibrate:name").set_value("heard").run()
    finish(app.button(key="calibrate:start").click().run())
    assert not app.exception and not app.error, [error.value for error in app.error]
    run = Run.open(folders.runs_folder() / "heard")
    assert run.info["tokens"]["audio"] == 14  # 0.5 s are 7 tokens, twice
    for page, said in (("tokens", "14 audio tokens"), ("budget", "bits"), ("experts", "Expert 0 of layer 0")):
        app.switch_page(str(ROOT / "pages" / f"{page}.py")).run()
        assert not app.exception and said in words(app), page
    found = run.exemplars()
    heard = next(expert for expert in range(8) if found.sounds(next(iter(found.tables)), expert))
    assert "s of sound 1 of" in words(app.number_input(key="experts-expert").set_value(heard).run())
    app.switch_page(str(ROOT / "pages" / "quantize.py")).run()
    app.segmented_control(key="quantize:source").set_value("Own file").run()
    upload(app, "evaluation", ("mine.zip", archive()))
    finish(app.button(key="quantize:go").click().run())
    assert not app.exception and not app.error, [error.value for error in app.error]
    [kept] = measurements_of(read_records(run.evaluations(), {}), {})
    assert {*kept.scores["allocation"].kl_by_modality} == {"text", "audio"}


def test_own_sounds_with_questions_and_what_is_neither_is_named(open_app):
    app = open_app("calibrate")
    app.segmented_control(key="samples:source").set_value("Own pictures").run()
    upload(app, "pictures", ("a.wav", sound(0.5, 440)), ("b.flac", b"no sound"), ("red.png", png("red")))
    assert not app.exception and "asks: “Describe the sound.” or “Describe the picture.”" in words(app)
    assert "1 could not be used. The other 2 samples are kept." in words(app)
    assert "b.flac is not a sound that can be read" in words(app)
