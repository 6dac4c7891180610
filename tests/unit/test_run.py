"""Runs on disk: whole, half-made, damaged, and carried elsewhere."""

import json
from pathlib import Path

import numpy as np
import pytest

from mode_core.allocation import Allocation
from mode_core.runs.records import TOKEN_SCORES
from mode_core.runs.run import PORTABLE, Run, RunError, TokenScores, portable_source
from tests.synthetic import synthetic_statistics


@pytest.fixture
def run(tmp_path) -> Run:
    made = Run.create(tmp_path / "runs" / "mine", model={"source": "sample_data"})
    made.write_statistics(synthetic_statistics(banks=2, experts=4), state="done")
    return made


def test_a_run_opens_as_it_was_written(run):
    opened = Run.open(run.path)
    assert opened.state == "done" and opened.name == "mine"
    assert opened.statistics.digest() == run.statistics.digest()
    assert opened.statistics is opened.statistics


def test_a_run_that_has_only_begun(tmp_path):
    Run.create(tmp_path / "new")
    opened = Run.open(tmp_path / "new")
    assert opened.state == "begun" and opened.statistics is None
    assert (
        opened.sample_records() == []
        and opened.token_scores() == opened.token_routes() == {}
        and opened.allocations() == {}
    )


def test_model_paths_are_portable(run, tmp_path):
    assert portable_source(PORTABLE / "sample_data") == "sample_data"
    assert portable_source(tmp_path) == str(tmp_path) and portable_source("owner/name") == "owner/name"
    assert Path(run.model_source) == PORTABLE / "sample_data"


def test_named_things(run):
    bits = {bank.name: np.full(4, 3) for bank in run.statistics}
    run.save_allocation("three bits", Allocation(bits, (2, 3, 4), 1.0, 1.0, True, 0.1, 3.0))
    run.save_evaluation("mode 3.0", {"accuracy": 0.9})
    opened = Run.open(run.path)
    assert opened.evaluations() == {"mode 3.0": {"accuracy": 0.9}}
    kept = opened.allocations()["three bits"]
    assert kept.average_bits == 3.0 and all((kept.bits[name] == value).all() for name, value in bits.items())
    for name in ("../evil", "a/b", "", ".hidden"):
        with pytest.raises(RunError, match="cannot be a name"):
            run.save_evaluation(name, {})


def test_token_scores_and_samples_come_back(run):
    draw = np.random.default_rng(0)
    scores = [
        TokenScores("a", ("x", "y"), {"text_attention": draw.random((2, 6), dtype=np.float32)}, ((2, 3),)),
        TokenScores("b", ("x", "y"), {"text_attention": draw.random((2, 4), dtype=np.float32)}, None),
    ]
    run.write_samples([{"id": "a", "text": "", "grids": None, "thumbnails": ["000-0.png"]}], scores)
    assert b"mode-token-scores/1" in (run.path / TOKEN_SCORES).read_bytes()  # as earlier versions read it
    found = Run.open(run.path).token_scores()
    for entry in scores:
        back = found[entry.sample]
        assert (back.banks, back.grids) == (entry.banks, entry.grids)
        np.testing.assert_array_equal(back.scores["text_attention"], entry.scores["text_attention"])
    assert run.sample_records()[0]["thumbnails"] == [str(run.path / "thumbnails" / "000-0.png")]


def test_scores_of_audio_tokens_come_back_and_are_checked(run):
    draw = np.random.default_rng(0)
    one = {"text_attention": draw.random((2, 5), dtype=np.float32)}
    run.write_samples([], [TokenScores("a", ("x", "y"), {}, None, one, ((3, 0.5), (2, 0.25)))])
    assert b"mode-token-scores/2" in (run.path / TOKEN_SCORES).read_bytes()
    back = Run.open(run.path).token_scores()["a"]
    assert back.scores == {} and back.sounds == ((3, 0.5), (2, 0.25))
    np.testing.assert_array_equal(back.audio["text_attention"], one["text_attention"])
    run.write_samples([], [TokenScores("a", ("x", "y"), {}, None, one, ((3, 0.5), (9, 0.25)))])
    with pytest.raises(RunError, match=r"is damaged: scores of 'a': expected one row .* at least 12 tokens"):
        Run.open(run.path).token_scores()


def test_the_list_is_newest_first_and_skips_the_damaged(run):
    root = run.path.parent
    Run.create(root / "later")
    (root / "broken").mkdir()
    (root / "broken" / "run.json").write_text("{")
    assert [found.name for found in Run.list(root)] == ["later", "mine"]


def test_refusals(run, tmp_path):
    with pytest.raises(RunError, match=r"There is no run at .*nowhere. Make one with"):
        Run.open(tmp_path / "nowhere")
    (tmp_path / "plain").mkdir()
    with pytest.raises(RunError, match=r"a folder without run.json, so no run"):
        Run.open(tmp_path / "plain")
    with pytest.raises(RunError, match=r"is not empty \(it holds run.json\)"):
        Run.create(run.path)
    (tmp_path / "plain" / "run.json").write_text(json.dumps({"format": "other"}))
    with pytest.raises(RunError, match="no run of this software"):
        Run.open(tmp_path / "plain")
    (tmp_path / "plain" / "run.json").write_text('{"format": ')
    with pytest.raises(RunError, match=r"run.json is not readable as JSON .*; it is damaged"):
        Run.open(tmp_path / "plain")
    (run.path / "statistics.safetensors").unlink()
    with pytest.raises(RunError, match=r"its statistics.safetensors is missing. Copy it whole, or redo it"):
        Run.open(run.path)


def test_a_failed_write_leaves_the_old_file(run, monkeypatch):
    before = (run.path / "run.json").read_bytes()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        run.write_info({**run.info, "state": "half done"})
    assert (run.path / "run.json").read_bytes() == before
    assert not [path for path in run.path.iterdir() if path.suffix == ".part"]


def test_nothing_is_pickled(run):
    run.save_evaluation("x", {})
    assert {path.suffix for path in run.path.rglob("*") if path.is_file()} == {".json", ".safetensors"}


def test_the_bundled_run_names_no_machine(bundled_run):
    text = (bundled_run.path / "run.json").read_text()
    assert bundled_run.info["model"]["source"] == "sample_data/model"
    assert str(PORTABLE) not in text and str(Path.home()) not in text
    assert bundled_run.state == "done" and bundled_run.info["tokens"]["vision"] > bundled_run.info["tokens"]["text"]
