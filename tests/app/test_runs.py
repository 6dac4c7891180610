"""The list of runs on the Calibrate page, where models may be read, and what a calibration is said to take."""

from __future__ import annotations

import shutil

import pytest

from dashboard.jobs.forecast import tokens_per_second
from dashboard.parts.calibrate import model_picker, run_list
from dashboard.state import folders
from mode_core.calibration import CalibrationSettings, calibrate
from mode_core.errors import SettingsError
from mode_core.models import load_model
from mode_core.run import Run, RunError
from tests.app.conftest import NAME


@pytest.fixture
def entries(places, tiny_runs) -> dict[str, folders.RunEntry]:
    """A copy of the tiny run that may be changed, in the folder of runs."""
    shutil.copytree(tiny_runs / NAME, places / "runs" / "copy")
    return {entry.name: entry for entry in folders.runs()}


@pytest.fixture(autouse=True)
def no_page(monkeypatch):
    """The actions are called without a page: which run is open is noted only."""
    opened = []
    monkeypatch.setattr(run_list.current_run, "open_run", opened.append)
    monkeypatch.setattr(run_list.address, "wanted_run", lambda: "copy")
    return opened


def test_rename_moves_the_folder_and_opens_it(entries, no_page):
    assert "'better'" in run_list.rename(entries["copy"], "better")
    assert Run.open(folders.runs_folder() / "better").state == "done" and no_page == ["better"]
    for name in ("../out", "", "bundled"):
        with pytest.raises(RunError, match="cannot be a run's name"):
            run_list.rename(folders.runs()[1], name)


def test_a_taken_name_is_refused_and_nothing_moves(entries, places):
    (places / "runs" / "taken").mkdir()
    with pytest.raises(RunError, match="is a run called 'taken' already"):
        run_list.rename(entries["copy"], "taken")
    assert (places / "runs" / "copy" / "run.json").is_file()


def test_delete_opens_the_bundled_one(entries, no_page, monkeypatch):
    monkeypatch.setattr(run_list.process_wide, "run_busy", lambda name: True)
    with pytest.raises(RunError, match="still writes"):
        run_list.delete(entries["copy"])
    monkeypatch.setattr(run_list.process_wide, "run_busy", lambda name: False)
    run_list.delete(entries["copy"])
    assert not entries["copy"].path.exists() and no_page == [folders.BUNDLED]


def test_merging_a_run_with_itself_is_refused(entries, places, tiny_runs):
    shutil.copytree(tiny_runs / NAME, places / "runs" / "twin")
    pair = [entry for entry in folders.runs() if entry.name in ("copy", "twin")]
    with pytest.raises(RunError, match="count these twice"):
        run_list.merge(pair, "both")
    assert not (places / "runs" / "both").exists()


def test_a_damaged_run_is_listed_with_the_reason(entries):
    (entries["copy"].path / "run.json").write_text("{")
    assert run_list.row_of(entries["copy"])["state"].startswith("damaged: ")


def test_models_found_below_a_root(tmp_path, tiny_model_folder):
    inside, outside = tmp_path / "models", tmp_path / "elsewhere"
    shutil.copytree(tiny_model_folder, inside / "owner" / "tiny")
    outside.mkdir()
    (inside / "way-out").symlink_to(outside)
    assert model_picker.models_below([inside]) == [inside / "owner" / "tiny"]


def test_pace_of_an_earlier_run_of_the_same_model(tiny_runs, tiny_model_folder):
    run = Run.open(tiny_runs / NAME)
    settings = CalibrationSettings(**(run.info["settings"] | {"bits": (1, 2, 3, 4)}))
    expected = sum(run.info["tokens"].values()) / run.info["seconds"]
    assert tokens_per_second(run.model_source, settings, [run]) == pytest.approx(expected)
    assert tokens_per_second(run.model_source, CalibrationSettings(bits=(2,)), [run]) is None
    assert tokens_per_second("elsewhere", settings, [run]) is None


def test_a_half_done_run_is_continued(places, tiny_model_folder, tiny_samples):
    from dashboard.jobs.shelf import ModelShelf
    from dashboard.jobs.work import calibrate_run

    settings = CalibrationSettings(bits=(2, 4), group_size=32, batch_size=1)
    loaded = load_model(tiny_model_folder, device="cpu")
    whole = calibrate(loaded, tiny_samples, settings)
    folder = places / "runs" / "half"
    run = Run.create(folder)
    calibrate(loaded, tiny_samples[:3], settings, run=run)
    run.write_info({**run.info, "state": "half done", "samples": run.info["samples"]})
    given = (ModelShelf(), str(tiny_model_folder), tiny_samples, settings, folder)
    with pytest.raises(RunError, match="is not empty"):  # somebody else's, where it was not meant to be continued
        calibrate_run(*given, progress=lambda p: None, cancel=None)
    calibrate_run(*given, resume=True, progress=lambda p: None, cancel=None)
    assert set(Run.open(folder).statistics.samples) == set(whole.samples)
    assert Run.open(folder).anchor().widths == (2, 4)  # a small model is anchored unasked, as on the command line


@pytest.mark.parametrize("text", ["²,1,1", "1,2", "0,1,1", "-1 2 3", "9" * 5000 + ",1,1", "a,b,c"])
def test_sizes_that_are_none_are_refused(text):
    with pytest.raises(SettingsError, match="three whole numbers, such as 2048, 768, 8; got"):
        run_list.sizes_of(text)
    assert run_list.sizes_of(" ") is None and run_list.sizes_of("2048, 768 8") == (2048, 768, 8)


def test_files_of_the_released_code_become_a_run(places, tmp_path, no_page, monkeypatch):
    import json

    layer = "model.language_model.layers.0.mlp"
    counts = {"total": [4, 6], "text": [1, 3], "image": [3, 3], "dominant_image": [2, 1], "redundant_image": [1, 2]}
    error = {str(bits): {"text": 1.0 / bits, "vision": 0.5 / bits} for bits in (2, 3, 4)}
    sensitivity = {
        "metadata": {"dominant_ratio": 0.3, "group_size": 128, "model_path": "owner/model"},
        "sensitivities": {layer: {"0": error, "1": error}},
    }
    chosen = []
    monkeypatch.setattr(run_list.address, "choose", lambda **changes: chosen.append(changes))
    files = [json.dumps(content).encode() for content in ({layer: counts}, sensitivity)]
    assert "key ratio 30 %" in run_list.take_released(*files, "theirs", (64, 32, 1))
    assert no_page == ["theirs"] and chosen == [{"key_ratio": 0.3, "signal": "text_attention"}]
    assert Run.open(folders.runs_folder() / "theirs").statistics.bits == (2, 3, 4)
    with pytest.raises(ValueError, match=r"frequency\.json"):
        run_list.take_released(b"{", files[1], "broken", None)
    assert not (folders.runs_folder() / "broken").exists()
