"""One bad sample does not end the work: left out, counted and named in text, JSON and run.json, by every verb."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from mode_core.cli import main
from mode_core.run import Run

QUICK = ["--no-sensitivity", "--exemplars", "0", "--quiet"]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory, tiny_samples) -> Path:
    """Four good samples, one whose picture is missing, one cut off, one of extreme shape, and one line of no JSON."""
    at = tmp_path_factory.mktemp("mixed")
    pictures = {f"{n}.png": tiny_samples[n].images[0].load() for n in range(3)}
    pictures |= {"thin.png": Image.new("RGB", (2, 500))}
    for name, picture in pictures.items():
        picture.save(at / name)
    noise = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(noise, "PNG")
    (at / "cut.png").write_bytes(noise.getvalue()[:1500])
    names = ["0.png", "gone.png", "cut.png", "1.png", "thin.png", "2.png", None]
    asked = [{"id": f"s{n}", "image": name, "question": "what is it ?", "answer": ["red", "it"], "task": "t"}
             for n, name in enumerate(names)]  # fmt: skip
    lines = [json.dumps(entry) for entry in asked]
    (at / "s.jsonl").write_text("\n".join([*lines[:3], "{no JSON", *lines[3:]]), encoding="utf-8")
    return at / "s.jsonl"


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_model_folder, mixed) -> Path:
    out = tmp_path_factory.mktemp("left-out") / "run"
    given = ["--model", str(tiny_model_folder), "--samples", str(mixed), "--exemplars", "0", "--quiet"]
    assert main(["calibrate", *given, "--group-size", "32", "--out", str(out)]) == 0
    return out


BAD = {"s.jsonl, line 2": "no picture 'gone.png'", "s.jsonl, line 4": "not valid JSON",
       "s2": "cut.png: the picture is damaged", "s4": "refused s4: absolute aspect ratio"}  # fmt: skip


def check(told: dict[str, str], bad=BAD):
    assert list(told) == list(bad)
    assert all(words in told[where] for where, words in bad.items()), told


def test_calibrate_names_them_in_text_json_and_the_run(run, tiny_model_folder, mixed, tmp_path, capsys):
    info = Run.open(run).info
    assert info["samples"]["measured"] == 4
    check({entry["sample"]: entry["reason"] for entry in info["refused"]})
    command = ["calibrate", "--model", str(tiny_model_folder), "--samples", str(mixed), *QUICK]
    assert main([*command, "--out", str(tmp_path / "a"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["samples"] == 4 and told["left_out"] == 4
    check(told["left_out_because"])
    assert main([*command, "--out", str(tmp_path / "b"), "--batch-size", "3"]) == 0
    text = capsys.readouterr().out
    assert "left out          4" in text and all(where in text for where in BAD)


def test_strict_ends_at_the_first_and_leaves_nothing_behind(tiny_model_folder, mixed, tmp_path, capsys):
    command = ["calibrate", "--model", str(tiny_model_folder), *QUICK, "--out", str(tmp_path / "new"), "--strict"]
    assert main([*command, "--samples", str(mixed)]) == 1
    assert "s.jsonl, line 2: there is no picture 'gone.png'" in capsys.readouterr().err
    lines = mixed.read_text().splitlines()
    cut = mixed.with_name("cut.jsonl")
    cut.write_text(lines[2])
    for _ in range(2):  # the same command begins anew
        assert main([*command, "--samples", str(cut)]) == 1
        assert "The sample s2 is refused: cut.png: the picture is damaged" in capsys.readouterr().err
        assert not (tmp_path / "new").exists()
    assert main([*command[:-1], "--samples", str(cut)]) == 1
    assert "All 1 samples were refused" in capsys.readouterr().err and not (tmp_path / "new").exists()


def test_a_run_that_is_continued_names_them_once(run, tiny_model_folder, mixed, capsys):
    given = ["--model", str(tiny_model_folder), "--samples", str(mixed), "--exemplars", "0", "--group-size", "32"]
    assert main(["calibrate", *given, "--quiet", "--out", str(run), "--resume", "--json"]) == 0
    check(json.loads(capsys.readouterr().out)["left_out_because"])
    check({entry["sample"]: entry["reason"] for entry in Run.open(run).info["refused"]})


def test_evaluate_measures_the_others(run, mixed, capsys):
    command = ["evaluate", "--run", str(run), "--samples", str(mixed), "--quiet"]
    assert main([*command, "--uniform", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["samples"] == 4 and told["left_out"] == 4
    check(told["left_out_because"])
    assert main([*command, "--strict"]) == 1
    assert "line 2: there is no picture 'gone.png'" in capsys.readouterr().err


def test_gptq_looks_at_the_others(run, mixed, capsys):
    command = ["quantize", "--run", str(run), "--uniform", "3", "--quantizer", "gptq", "--samples", str(mixed)]
    assert main([*command, "--quiet", "--json"]) == 0
    check(json.loads(capsys.readouterr().out)["left_out_because"])
    assert main([*command, "--quiet", "--limit", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["drawn"] == {"by": "task and picture", "seed": 0, "of": 8}


def test_compare_measures_the_others(run, mixed, tmp_path, capsys):
    command = ["compare", "--runs", str(run), "--samples", str(mixed), "--out", str(tmp_path), "--methods", "mode"]
    few = ["--average-bits", "2.5", "--truth-bits", "--resamples", "100", "--draws", "2", "--quiet", "--json"]
    assert main([*command, *few]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["items_text"] + told["items_vision"] == 4
    check(told["left_out_because"])


def test_zero_is_no_default(run, capsys):
    assert main(["allocate", "--run", str(run), "--average-bits", "0", "--quiet"]) == 1
    assert "average-bits must be more than 0; got 0" in capsys.readouterr().err
    for verb in (["allocate"], ["evaluate", "--uniform", "2", "--limit", "1"]):
        assert main([*verb, "--run", str(run), "--group-size", "0", "--quiet"]) == 1
        assert "group-size must be at least 1, or -1 for the whole row; got 0" in capsys.readouterr().err
    assert main(["evaluate", "--run", str(run), "--first", "--quiet"]) == 1
    assert "give --limit N with it" in capsys.readouterr().err


def test_who_reads_the_result_may_stop_reading(run):
    """As `… | head -0` does: the pipe is closed before anything is printed."""
    code = "import os, sys\nfrom mode_core.cli import main\nos.close(0)\nsys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "allocate", "--run", str(run), "--json", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        started.stdout.close()
        assert "Traceback" not in (err := started.stderr.read()) and "BrokenPipe" not in err, err
    assert started.returncode == 0
