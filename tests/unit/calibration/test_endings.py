"""However a calibration ends, the command line says why in words, and a run keeps what was measured."""

import json
import shutil
import signal

import pytest

from mode_core.cli import main
from mode_core.cli.report import BarHook
from mode_core.run import Run


@pytest.fixture
def samples(tmp_path, tiny_samples):
    """Four tiny samples as a folder."""
    folder = tmp_path / "samples"
    folder.mkdir()
    lines = []
    for number, sample in enumerate(tiny_samples[:4]):
        sample.images[0].load().save(folder / f"{number}.png")
        line = {"id": sample.id, "images": [f"{number}.png"], "messages": list(sample.messages)}
        lines.append(json.dumps(line))
    (folder / "samples.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def run_verb(model, samples, out, *more: str) -> int:
    source = ["--model", str(model), "--samples", str(samples), "--out", str(out)]
    return main(
        ["calibrate", *source, "--measure-bits", "2", "--batch-size", "2", "--device", "cpu", "--no-gradients", *more]
    )


def test_a_bad_model_folder(samples, tmp_path, capsys):
    assert run_verb(tmp_path / "nothing", samples, tmp_path / "run") == 1
    assert "There is no folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert run_verb(tmp_path / "empty", samples, tmp_path / "run") == 1
    assert "without config.json" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_processor_that_cannot_load(tiny_model_folder, samples, tmp_path, capsys):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model_folder, folder)
    for file in [*folder.glob("token*"), *folder.glob("*processor*"), *folder.glob("*.jinja")]:
        file.unlink()
    assert run_verb(folder, samples, tmp_path / "run") == 1
    said = capsys.readouterr().err
    assert str(folder) in said and "processor" in said
    assert not (tmp_path / "run").exists()


def test_a_cancelled_run_keeps_what_it_has_and_goes_on(tiny_model_folder, samples, tmp_path, capsys, monkeypatch):
    """The signal that torchrun and schedulers send, after the first batch."""

    def stop(self, progress):
        if progress.what.startswith("sample 2 of"):
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(BarHook, "__call__", stop)
        assert run_verb(tiny_model_folder, samples, tmp_path / "run", "--quiet") == 130
    assert "Stopped." in capsys.readouterr().err
    half = Run.open(tmp_path / "run")
    assert half.state == "half done" and len(half.statistics.samples) == 2
    assert run_verb(tiny_model_folder, samples, tmp_path / "run", "--quiet", "--resume") == 0
    assert Run.open(tmp_path / "run").state == "done" and len(Run.open(tmp_path / "run").statistics.samples) == 4
