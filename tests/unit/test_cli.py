"""The command line, whole: the road on a tiny random-weight model, refusals in words, exit codes, JSON."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import psutil
import pytest

from mode_core.cli.main import build_parser, main
from mode_core.cli.report import print_result
from mode_core.quantization.packed_file import read_packed
from mode_core.run import Run


@pytest.fixture(scope="module")
def sample_folder(tmp_path_factory, tiny_samples) -> Path:
    """The tiny samples as a person's folder: samples.jsonl and pictures."""
    folder = tmp_path_factory.mktemp("cli") / "samples"
    (folder / "images").mkdir(parents=True)
    lines = []
    for number, sample in enumerate(tiny_samples):
        names = [f"images/{number}-{place}.png" for place in range(len(sample.images))]
        for name, source in zip(names, sample.images, strict=True):
            source.load().save(folder / name)
        messages = [{"role": "user", "content": "<image>" * len(names) + "what colour is it ?"}]
        lines.append(json.dumps({"images": names, "messages": messages, "answer": "red", "task": "colour"}))
    (folder / "samples.jsonl").write_text("\n".join(dict.fromkeys(lines)) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory, tiny_model_folder, sample_folder) -> Path:
    """A run made by the command line."""
    out = tmp_path_factory.mktemp("runs") / "first"
    assert main(["calibrate", *model_and(tiny_model_folder, sample_folder), "--out", str(out), "--quiet"]) == 0
    assert main(["allocate", "--run", str(out), "--average-bits", "3", "--name", "three", "--quiet"]) == 0
    return out


def model_and(model: Path, samples: Path) -> list[str]:
    return ["--model", str(model), "--samples", str(samples)]


def result(capsys) -> dict:
    return json.loads(capsys.readouterr().out)


def test_calibrate_leaves_a_run_that_opens(calibrated: Path):
    run = Run.open(calibrated)
    assert run.state == "done"
    assert len(run.statistics.banks) == 2
    assert run.statistics.bits == (1, 2, 3, 4)


def test_gradients_are_measured_where_memory_allows_and_nobody_says_no(
    calibrated: Path, tiny_model_folder, sample_folder, tmp_path, capsys, monkeypatch
):
    assert Run.open(calibrated).statistics.extras == ("gradients",)
    command = ["calibrate", *model_and(tiny_model_folder, sample_folder), "--limit", "2", "--measure-bits", "2"]
    free = psutil.virtual_memory()._replace(available=1000)
    for name, options, memory, reason in (
        ("asked", ["--no-gradients"], None, None),
        ("small", [], free, "as much again; --gradients insists"),
        ("offloaded", ["--max-memory", "300KB"], None, "as much again; --gradients insists"),
    ):
        with monkeypatch.context() as patch:
            if memory is not None:
                patch.setattr(psutil, "virtual_memory", lambda: free)
            assert main([*command, *options, "--out", str(tmp_path / name), "--json", "--quiet"]) == 0
        told = result(capsys).get("gradients")
        assert told is None if reason is None else told.endswith(reason)
        assert Run.open(tmp_path / name).statistics.extras == ()
    resumed = [*command, "--out", str(tmp_path / "small"), "--resume", "--json", "--quiet"]
    assert main(resumed) == 0 and result(capsys)["gradients"] == "not measured, as the run was begun"


def test_allocate_keeps_the_budget_and_says_what_it_proved(calibrated: Path, capsys):
    assert main(["allocate", "--run", str(calibrated), "--average-bits", "2.5", "--json", "--quiet"]) == 0
    told = result(capsys)
    assert told["proven_optimal"] is True
    assert told["average_bits"] <= 2.5
    assert told["lower_bound"] <= told["predicted_damage"]
    assert sum(told["experts_at_each_width"].values()) == 16
    assert told["cost"]["peak_memory_mb"] > 0


def test_allocate_tells_which_experts_have_too_few_tokens(calibrated: Path, capsys):
    command = ["allocate", "--run", str(calibrated), "--json", "--quiet"]
    assert main([*command, "--min-support", "100000"]) == 0
    told = result(capsys)["support"]
    assert told["cost_estimated"] == told["experts"] == 16 and told["fewest_tokens"] == 100_000
    assert told["estimated_experts"][-1] == "and 6 more"
    assert main([*command, "--min-support", "0"]) == 1
    assert "min_support counts tokens" in capsys.readouterr().err


def test_kl_of_the_answer_is_measured_only_once_its_cost_is_agreed_to(
    tiny_model_folder, sample_folder, tmp_path: Path, capsys
):
    out = tmp_path / "kl"
    few = ["--out", str(out), "--limit", "2", "--measure-bits", "2", "3", "--signals", "all", "--json", "--quiet"]
    command = ["calibrate", *model_and(tiny_model_folder, sample_folder), *few, "--logit-kl"]
    assert main([*command, "--logit-kl-limit", "0.001"]) == 1
    told = capsys.readouterr().err
    assert "at most 70 forward passes, at most about" in told and "Add --yes to go on" in told and not out.exists()
    assert main([*command, "--yes"]) == 0
    told = result(capsys)["logit_kl"]
    assert told["samples"] == 2 and 0 < told["passes"] <= 70 and told["signal"] == "text_attention"
    run = Run.open(out)
    ids = run.info["logit_kl"]["ids"]
    assert ids == list(run.statistics.samples) and run.info["logit_kl"] == told | {"ids": ids}
    assert "logit_kl" in run.statistics.extras and len(run.statistics.signals) == 5
    before = run.statistics.digest()
    assert main([*command, "--yes", "--resume"]) == 0  # all is there: KL stays as it is, and is not measured again
    assert result(capsys)["logit_kl"]["passes"] == 0 and Run.open(out).statistics.digest() == before
    allocated = ["allocate", "--run", str(out), "--bits", "2", "3", "--average-bits", "2.5", "--json", "--quiet"]
    assert main([*allocated, "--method", "mode_logit_kl", "--scope", "model"]) == 0
    assert result(capsys)["proven_optimal"] is True
    assert main([*allocated, "--method", "logit_kl", "--key-ratio", "0.5"]) == 1
    assert "measured with key_ratio 0.20" in capsys.readouterr().err


def test_a_budget_in_megabytes_is_kept_in_bytes(calibrated: Path, capsys):
    assert main(["allocate", "--run", str(calibrated), "--budget-mb", "0.03", "--json", "--quiet"]) == 0
    assert result(capsys)["packed_bytes"] <= 30_000


def test_quantize_measures_the_bytes_it_predicted(calibrated: Path, tmp_path: Path, capsys):
    out = tmp_path / "packed.safetensors"
    assert main(["quantize", "--run", str(calibrated), "--allocation", "three", "--out", str(out), "--json"]) == 0
    told = result(capsys)
    assert told["measured_bytes"] == told["predicted_bytes"]
    assert told["measured_bytes"] < told["original_bytes"]
    assert out.stat().st_size >= told["measured_bytes"]
    scored = ["evaluate", "--run", str(calibrated), "--limit", "4", "--json", "--quiet"]
    assert main([*scored, "--allocation", "three"]) == 0
    at_once = result(capsys)
    assert main([*scored, "--packed", str(out)]) == 0
    from_file = result(capsys)
    assert from_file["kl"] == at_once["kl"] > 0 and from_file["agreement"] == at_once["agreement"]


def test_quantize_with_tokens_and_attention(calibrated: Path, sample_folder: Path, tmp_path: Path, capsys):
    out = tmp_path / "packed.safetensors"
    command = ["quantize", "--run", str(calibrated), "--uniform", "3", "--group-size", "32", "--quiet", "--json"]
    given = ["--quantizer", "gptq", "--samples", str(sample_folder), "--by-affinity", "--attention-bits", "4"]
    assert main([*command, *given, "--out", str(out)]) == 0
    told = result(capsys)
    assert told["measured_bytes"] == told["predicted_bytes"]
    assert told["whole_model_bytes"] == told["whole_model_predicted_bytes"]
    assert len(read_packed(out).linears) == 12
    named = [entry for experts in told.get("too_few_tokens", {}).values() for entry in experts]
    assert all("tokens)" in entry for entry in named)
    assert main([*command, "--shared-bits", "4"]) == 1
    assert "has no shared experts" in capsys.readouterr().err


def test_evaluate_tells_intervals_and_what_was_lost(calibrated: Path, sample_folder: Path, capsys):
    command = ["evaluate", "--run", str(calibrated), "--samples", str(sample_folder), "--json", "--quiet"]
    assert main([*command, "--uniform", "1", "--quantizer", "rtn", "--attention-bits", "2", "--show", "2"]) == 0
    told = result(capsys)
    assert set(told["intervals_95"]) == {"correct", "kl", "agreement", "perplexity"}
    assert told["intervals_95"]["perplexity"].startswith(f"{told['perplexity']:.4g} (")
    assert told["intervals_95"]["kl"].startswith(f"{told['kl']:.4g} (")
    assert told["original_accuracy"] is not None
    changed = told["answers_that_changed"]
    assert changed == "none" or all("→" in text for text in changed.values())


def test_evaluate_compares_with_the_original(calibrated: Path, sample_folder: Path, capsys):
    command = ["evaluate", "--run", str(calibrated), "--samples", str(sample_folder), "--json", "--quiet"]
    assert main([*command, "--uniform", "2", "--name", "uniform 2"]) == 0
    quantized = result(capsys)
    assert main(command) == 0
    original = result(capsys)
    assert quantized["kl"] > 0
    assert original["kl"] is None
    assert "uniform 2" in Run.open(calibrated).evaluations()


def test_export_writes_what_it_lists(calibrated: Path, tmp_path: Path, capsys):
    command = ["export", "--run", str(calibrated), "--allocation", "three", "--out", str(tmp_path / "bits")]
    assert main([*command, "--target", "expert_bits", "--json", "--quiet"]) == 0
    assert all(Path(path).is_file() for path in result(capsys)["files"])
    written = json.loads(next((tmp_path / "bits").glob("*bits*.json")).read_text())
    kept = Run.open(calibrated).allocations()["three"]
    for bank, bits in kept.bits.items():
        layer = str(Run.open(calibrated).statistics.banks[bank].shape.layer)
        assert np.array_equal([written["expert_bits"][layer][str(e)] for e in range(len(bits))], bits)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["allocate", "--run", "nowhere"], "There is no run at nowhere"),
        (["allocate", "--run", "{run}", "--average-bits", "1"], "2"),
        (["allocate", "--run", "{run}", "--average-bits", "3", "--budget-mb", "1"], "not both"),
        (["allocate", "--run", "{run}", "--average-bits", "3", "--model-mb", "1"], "not both"),
        (["quantize", "--run", "{run}", "--allocation", "lost"], "Kept: three"),
        (["export", "--run", "{run}", "--allocation", "three", "--target", "x", "--out", "o"], "expert_bits"),
        (["calibrate", "--model", "nowhere", "--out", "{new}"], "nowhere"),
        (["calibrate", "--samples", "nowhere", "--out", "{new}"], "nowhere"),
    ],
)
def test_refusals_name_what_is_wrong(calibrated: Path, tmp_path: Path, capsys, arguments, words):
    filled = [a.format(run=calibrated, new=tmp_path / "new") for a in arguments]
    assert main([*filled, "--quiet"]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "new").exists(), "a refused calibration must leave no folder behind"


def test_a_second_calibration_into_the_same_folder_is_refused(calibrated, tiny_model_folder, sample_folder, capsys):
    assert main(["calibrate", *model_and(tiny_model_folder, sample_folder), "--out", str(calibrated), "--quiet"]) == 1
    assert "not empty" in capsys.readouterr().err
    assert Run.open(calibrated).state == "done"


def test_every_verb_has_help_that_names_its_defaults(capsys):
    for verb in ("calibrate", "allocate", "quantize", "evaluate", "export"):
        with pytest.raises(SystemExit) as stopped:
            build_parser().parse_args([verb, "--help"])
        assert stopped.value.code == 0
        assert "default" in capsys.readouterr().out


def test_results_are_told_in_words_and_names_that_are_typed_stay(capsys):
    ranking = {"mode_soft_fisher": 0.5, "mode_soft_fisher (model, λ 0) at 3 bits": 1}
    print_result("check", {"left_out": 0, "ranking": ranking})
    lines = capsys.readouterr().out.splitlines()
    assert [" ".join(line.split()) for line in lines] == [
        "left out 0", "ranking", "mode_soft_fisher 0.5", "mode_soft_fisher (model, λ 0) at 3 bits 1",
    ]  # fmt: skip


def test_wrong_usage_exits_with_2():
    with pytest.raises(SystemExit) as stopped:
        main(["allocate"])
    assert stopped.value.code == 2


@pytest.mark.parametrize(
    ("code", "verb", "place"),
    [(code, verb, place) for code in (errno.ENOSPC, errno.EACCES) for verb, place in (
        (["calibrate", "--model", "{model}", "--samples", "{samples}", "--out", "{out}/new"], "{out}/new: "),
        (["quantize", "--run", "{run}", "--uniform", "2", "--out", "{out}/p.safetensors"], "{out}/p.safetensors"),
        (["evaluate", "--run", "{run}", "--samples", "{samples}", "--name", "full"], "{run}/evaluations/full.json"),
        (["compare", "--runs", "{run}", "--samples", "{samples}", "--methods", "mode", "--truth-bits", "--draws", "1",
          "--bits", "2", "3", "--average-bits", "2.5", "--out", "{out}/evidence"], "{out}/evidence/measured/"),
        (["check", "--run", "{run}", "--samples", "{samples}", "--groups", "8"], "{run}/check/grids"),
    )],
    ids=lambda given: given[0] if isinstance(given, list) else "",
)  # fmt: skip
def test_a_disk_that_refuses_is_told_with_path_and_remedy_by_verbs_that_run_the_model(
    calibrated, tiny_model_folder, sample_folder, tmp_path, capsys, monkeypatch, code, verb, place
):
    places = {"model": tiny_model_folder, "samples": sample_folder, "out": tmp_path, "run": calibrated}

    def refuse(_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("os.fsync", refuse)
    assert main([*(each.format(**places) for each in verb), "--quiet"]) == 1
    told = capsys.readouterr().err
    remedy = "Make room there" if code == errno.ENOSPC else "Get the right to read and write there"
    assert place.format(**places) in told and f"{os.strerror(code)}. {remedy}" in told
    assert not (tmp_path / "new").exists()


def test_calibrate_picks_samples_that_reach_experts(tiny_model_folder, sample_folder, tmp_path, capsys):
    asked = ["calibrate", "--model", str(tiny_model_folder), "--samples", str(sample_folder), "--device", "cpu"]
    asked += ["--quiet", "--no-sensitivity", "--no-anchor"]
    assert main([*asked, "--out", str(tmp_path / "run"), "--balance", "3"]) == 0
    said = capsys.readouterr().out
    assert "chosen for reach" in said and "an even draw: " in said and "fewer than 32 text tokens" in said
    run = Run.open(tmp_path / "run")
    assert len(run.statistics.samples) == 3 and run.info["samples"]["drawn"]["by"] == "reach of experts"
    assert main([*asked, "--out", str(tmp_path / "other"), "--balance", "99"]) == 1
    assert "--balance 99 picks so many samples from more of them" in capsys.readouterr().err
