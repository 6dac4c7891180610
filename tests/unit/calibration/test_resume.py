"""A calibration that is killed, stopped, or runs out of disk goes on to the numbers of one that was not.

The killed one is a real process that gets a real SIGKILL in the midst of its work.
"""

import errno
import json
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mode_core.calibration import CalibrationError, CalibrationSettings, calibrate
from mode_core.cli import main
from mode_core.errors import BusyError
from mode_core.jobs import Cancelled
from mode_core.run import Run
from mode_core.samples import read_samples
from mode_core.statistics.exemplars import Exemplars

SETTINGS = CalibrationSettings(
    bits=(2, 4), group_size=16, batch_size=2, checkpoint_samples=4, signals=("text_attention", "diversity"), exemplars=3
)
KILLED = """
import os, signal, sys
from mode_core.calibration import CalibrationSettings, calibrate
from mode_core.models import load_model
from mode_core.run import Run
from mode_core.samples import read_samples

def die(progress):
    if progress.what.startswith("sample 8 of"):
        os.kill(os.getpid(), signal.SIGKILL)

settings = CalibrationSettings.from_dict(__import__("json").loads(sys.argv[4]))
loaded, samples = load_model(sys.argv[1], device="cpu"), read_samples(sys.argv[2])
calibrate(loaded, samples, settings, run=Run.create(sys.argv[3]), progress=die)
"""


@pytest.fixture(scope="module")
def samples_folder(tmp_path_factory, tiny_samples) -> Path:
    """The tiny samples as files, with one in their midst that the tokenizer refuses."""
    folder = tmp_path_factory.mktemp("resume") / "samples"
    folder.mkdir()
    lines = []
    for number, sample in enumerate(tiny_samples):
        names = [f"{number}-{place}.png" for place in range(len(sample.images))]
        for name, source in zip(names, sample.images, strict=True):
            source.load().save(folder / name)
        lines.append(json.dumps({"id": sample.id, "images": names, "messages": list(sample.messages)}))
    bad = {"id": "bad", "images": [], "messages": [{"role": "user", "content": "what is <|im_end|> ?"}]}
    lines.insert(3, json.dumps(bad))
    (folder / "samples.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def whole(tiny_model, samples_folder, tmp_path_factory) -> Run:
    """The same calibration, never interrupted."""
    run = Run.create(tmp_path_factory.mktemp("whole") / "run")
    calibrate(tiny_model, read_samples(samples_folder), SETTINGS, run=run)
    return Run.open(run.path)


def assert_same(run: Run, whole: Run) -> None:
    """Counts equal, sums within float32 rounding (how operands lie in memory differs by process), the rest the same."""
    assert run.state == whole.state == "done"
    mine, other = run.statistics, whole.statistics
    assert mine.samples == other.samples and mine.settings == other.settings
    for name, bank in other.banks.items():
        for key, array in bank.arrays.items():
            if any(word in key for word in ("selections", "support", "tokens")):
                np.testing.assert_array_equal(mine.banks[name].arrays[key], array, err_msg=key)
            np.testing.assert_allclose(mine.banks[name].arrays[key], array, rtol=1e-7, atol=1e-12, err_msg=key)
    assert run.info["refused"] == whole.info["refused"] and len(whole.info["refused"]) == 1
    assert run.info["tokens"] == whole.info["tokens"] and run.info["samples"] == whole.info["samples"]
    plain = [[{k: v for k, v in r.items() if k != "thumbnails"} for r in x.sample_records()] for x in (run, whole)]
    assert plain[0] == plain[1] and len(plain[0]) == 8
    assert mine.by_task.keys() == other.by_task.keys() and mine.by_task
    assert all(np.array_equal(mine.by_task[task], counts) for task, counts in other.by_task.items())
    assert all(Path(file).is_file() for record in run.sample_records() for file in record["thumbnails"])
    scores, expected = run.token_scores(), whole.token_scores()
    assert list(scores) == list(expected) and len(scores) == 6
    for name, entry in expected.items():
        for kind, values in entry.scores.items():
            np.testing.assert_array_equal(scores[name].scores[kind], values)
    routes, expected = run.token_routes(), whole.token_routes()
    assert list(routes) == list(expected) and len(routes) == 8
    for name, entry in expected.items():
        np.testing.assert_array_equal(routes[name].experts, entry.experts)
    best, reference = Exemplars.load(run.path), Exemplars.load(whole.path)
    for bank, table in reference.tables.items():
        np.testing.assert_array_equal(best.tables[bank], table)
    assert not (run.path / "rounding").exists() and not (run.path / ".spare").exists()


def test_killed_and_continued(tiny_model_folder, samples_folder, whole, tmp_path, capsys, forks):
    out = tmp_path / "run"
    settings = json.dumps(SETTINGS.to_dict())
    forks.run(KILLED, tiny_model_folder, samples_folder, out, settings, status=-signal.SIGKILL)
    half = Run.open(out)
    assert half.state == "half done" and len(half.statistics.samples) == 5  # of the 7 that it had measured
    assert (out / "rounding").is_dir()
    options = ["--measure-bits", "2", "4", "--group-size", "16", "--batch-size", "2", "--exemplars", "3"]
    options += [
        "--signals",
        "text_attention",
        "diversity",
        "--device",
        "cpu",
        "--no-gradients",
        "--out",
        str(out),
        "--quiet",
    ]
    source = ["--model", str(tiny_model_folder), "--samples", str(samples_folder)]
    assert main(["calibrate", *source, *options]) == 1
    assert "is not empty" in capsys.readouterr().err
    assert main(["calibrate", *source, *options, "--resume"]) == 0
    said = capsys.readouterr()
    assert "Loading weights" not in said.err
    assert_same(Run.open(out), whole)


def test_stopped_and_continued_searches_no_scales_again(tiny_model, samples_folder, whole, tmp_path, monkeypatch):
    cancel, run, samples = threading.Event(), Run.create(tmp_path / "run"), read_samples(samples_folder)
    with pytest.raises(Cancelled):
        calibrate(
            tiny_model,
            samples,
            SETTINGS,
            run=run,
            progress=lambda p: cancel.set() if p.what.startswith("sample 4 of") else None,
            cancel=cancel,
        )

    def never(*_):
        raise AssertionError("searched for scales that are in the run's folder")

    monkeypatch.setattr("mode_core.calibration.rounding.quantize", never)
    done = []
    calibrate(tiny_model, samples, SETTINGS, run=Run.open(run.path), progress=lambda p: done.append(p.done))
    assert done[0] == 4 + 1 and done[-1] == 2 + len(samples)
    assert_same(Run.open(run.path), whole)


def test_other_settings_or_samples_are_refused(tiny_model, samples_folder, whole):
    samples = read_samples(samples_folder)
    with pytest.raises(CalibrationError, match=r"other settings \(bits: \[2, 4\] there, \[3\] now\)"):
        calibrate(tiny_model, samples, replace(SETTINGS, bits=(3,)), run=Run.open(whole.path))
    with pytest.raises(CalibrationError, match=r"holds 7 samples that are not among those given"):
        calibrate(tiny_model, samples[:1], SETTINGS, run=Run.open(whole.path))
    assert calibrate(tiny_model, samples, SETTINGS, run=Run.open(whole.path)).digest() == whole.statistics.digest()


def test_a_full_disk_keeps_everything_measured(tiny_model, samples_folder, whole, tmp_path, monkeypatch):
    """The disk refuses to write once; room that was set aside takes the last write, and the run goes on later."""
    import mode_core.files as files

    run, samples, real = Run.create(tmp_path / "run"), read_samples(samples_folder), files.atomic_write

    def full(path, content):
        if (run.path / ".spare").exists() and "statistics" in Path(path).name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path, content)

    monkeypatch.setattr("mode_core.statistics.model_statistics.atomic_write", full)
    with pytest.raises(CalibrationError, match=r"full \(No space left.*\)\. The 3 samples.*are kept.*--resume"):
        calibrate(tiny_model, samples, replace(SETTINGS, checkpoint_samples=3), run=run)
    monkeypatch.setattr("mode_core.statistics.model_statistics.atomic_write", real)
    half = Run.open(run.path)
    assert half.state == "half done" and len(half.statistics.samples) == 3
    calibrate(tiny_model, samples, SETTINGS, run=half)
    assert_same(Run.open(run.path), whole)


def test_no_room_at_all_is_said_at_the_start(tiny_model, samples_folder, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(CalibrationError, match=r"cannot be set aside there \(No space left on device\); make room"):
        calibrate(tiny_model, read_samples(samples_folder), SETTINGS, run=Run.create(tmp_path / "run"))


def test_a_model_that_breaks_down_keeps_all_before(tiny_model, samples_folder, whole, tmp_path, monkeypatch):
    """It breaks behind its last bank, when all have counted the batch already; nothing of that batch stays."""
    run, samples = Run.create(tmp_path / "run"), read_samples(samples_folder)
    head, calls = tiny_model.model.lm_head, []
    real = head.forward

    def breaks(states):
        calls.append(1)
        if len(calls) > 3:
            raise RuntimeError("out of memory")
        return real(states)

    with monkeypatch.context() as patch:
        patch.setattr(head, "forward", breaks)
        with pytest.raises(CalibrationError, match=r"broke down over the samples .* \(out of memory\)\. The run keeps"):
            calibrate(tiny_model, samples, replace(SETTINGS, checkpoint_samples=100), run=run)
    half = Run.open(run.path)
    assert half.state == "half done" and 0 < len(half.statistics.samples) < 8
    calibrate(tiny_model, samples, SETTINGS, run=half)
    assert_same(Run.open(run.path), whole)


def test_a_run_that_another_process_measures_is_refused_and_stays(tiny_model, samples_folder, tmp_path):
    run = Run.create(tmp_path / "run")
    with Run(run.path).locked(), pytest.raises(BusyError, match=r"The run .* is being written by process"):
        calibrate(tiny_model, read_samples(samples_folder), SETTINGS, run=run)
    assert Run.open(run.path).state == "begun"


def test_a_refused_sample_does_not_end_the_work(whole):
    assert [entry["sample"] for entry in whole.info["refused"]] == ["bad"]
    assert whole.info["samples"]["measured"] == 8
