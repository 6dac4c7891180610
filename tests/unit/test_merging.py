"""Two halves of the samples merged are the run that all of them would have made."""

from __future__ import annotations

import numpy as np
import pytest

from mode_core.calibration import CalibrationSettings, calibrate
from mode_core.models import load_model
from mode_core.run import Run, RunError
from mode_core.runs.merging import merge_runs


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_model_folder, tiny_samples):
    folder, loaded = tmp_path_factory.mktemp("runs"), load_model(tiny_model_folder, device="cpu")
    settings = CalibrationSettings(bits=(2, 4), group_size=32, batch_size=1)
    made = {}
    for name, part in {"whole": tiny_samples, "one": tiny_samples[:3], "two": tiny_samples[3:]}.items():
        made[name] = Run.create(folder / name)
        calibrate(loaded, part, settings, run=made[name])
    return made


def test_merged_halves_equal_the_whole(runs, tmp_path):
    merged = Run.open(merge_runs([runs["one"], runs["two"]], tmp_path / "both").path)
    whole = runs["whole"].statistics
    assert merged.state == "done" and set(merged.statistics.samples) == set(whole.samples)
    for name, bank in whole.banks.items():
        for key, value in bank.arrays.items():
            np.testing.assert_allclose(merged.statistics.banks[name].arrays[key], value, rtol=1e-12, err_msg=key)
    for task, counts in whole.by_task.items():
        np.testing.assert_array_equal(merged.statistics.by_task[task], counts)
    assert merged.info["merged_from"] == ["one", "two"]
    assert merged.info["tokens"] == runs["whole"].info["tokens"]
    assert merged.model_source == runs["whole"].model_source


def test_merged_exemplars_are_the_best_of_all(runs, tmp_path):
    merged = merge_runs([runs["one"], runs["two"]], tmp_path / "both").exemplars()
    whole = runs["whole"].exemplars()
    for bank in whole.tables:
        for expert in range(4):
            assert merged.text(bank, expert) == whole.text(bank, expert)
            assert [p.position for p in merged.patches(bank, expert)] == [
                p.position for p in whole.patches(bank, expert)
            ]


def test_the_same_samples_twice_are_refused_and_nothing_stays(runs, tmp_path):
    with pytest.raises(RunError, match=r"'whole' cannot be merged with the others.*count these twice"):
        merge_runs([runs["one"], runs["whole"]], tmp_path / "twice")
    assert not (tmp_path / "twice").exists()
    with pytest.raises(RunError, match="at least two"):
        merge_runs([runs["one"]], tmp_path / "single")


def test_an_occupied_folder_is_refused(runs, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept.txt").write_text("mine")
    with pytest.raises(RunError, match="is not empty"):
        merge_runs([runs["one"], runs["two"]], tmp_path / "full")
    assert (tmp_path / "full" / "kept.txt").read_text() == "mine"
