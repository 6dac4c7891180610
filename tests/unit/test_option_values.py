"""Values that are refused before any work, in every verb; and a disk that refuses, told with path and way out."""

import errno
import os

import numpy as np
import pandas as pd
import pytest

from mode_core.allocation import allocate
from mode_core.cli.main import main
from mode_core.csv_files import csv_of
from mode_core.runs.run import Run
from tests.synthetic import synthetic_statistics
from tests.synthetic_run import keep_run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    made = keep_run(tmp_path_factory.mktemp("values") / "run", synthetic_statistics(banks=1, experts=4, tokens=200))
    made.save_allocation("three", allocate({b.name: np.ones((4, 3)) for b in made.statistics}, (2, 3, 4), 3.0))
    return made


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["calibrate", "--out", "{new}", "--checkpoint-seconds", "nan"], "--checkpoint-seconds must be a number"),
        (["calibrate", "--out", "{new}", "--limit", "-3"], "--limit must be at least 1; got -3"),
        (["calibrate", "--out", "{new}", "--group-size", "0"], "--group-size must be at least 1, or -1"),
        (["calibrate", "--out", "{new}", "--checkpoint-seconds", "-1"], "--checkpoint-seconds must be at least 0"),
        (["calibrate", "--out", "{new}", "--hessian-probes", "-1"], "--hessian-probes must be at least 0; got -1"),
        (["calibrate", "--out", "{new}", "--measure-bits", "3", "2"], "--measure-bits must be different widths"),
        (["calibrate", "--out", "{new}", "--logit-kl", "--logit-kl-key-ratio", "2"], "--logit-kl-key-ratio must lie"),
        (["calibrate", "--out", " "], "--out is empty"),
        (["calibrate", "--out", "{new}", "--draw-seed", "-1"], "--draw-seed must be at least 0; got -1"),
        (["check", "--run", "{run}", "--seed", "-1"], "--seed must be at least 0; got -1"),
        (["compare", "--runs", "{run}", "--draws", "0"], "--draws must be at least 1; got 0"),
        (["calibrate", "--out", "{new}", "--logit-kl", "--logit-kl-limit", "inf"], "--logit-kl-limit must be a number"),
        (["allocate", "--run", "{run}", "--budget-mb", "inf"], "--budget-mb must be a number; got inf"),
        (["allocate", "--run", "{run}", "--average-bits", "0"], "--average-bits must be more than 0; got 0"),
        (["allocate", "--run", "{run}", "--attention-bits", "0"], "--attention-bits must be at least 1"),
        (["allocate", "--run", "{run}", "--name", ""], "--name is empty"),
        (["allocate", "--run", "{run}", "--name", "a/b"], "'a/b' cannot be a name"),
        (["evaluate", "--run", "{run}", "--name", "a/b"], "'a/b' cannot be a name"),
        (["quantize", "--run", "{run}", "--uniform", "3", "--quantizer-limit", "0"], "--quantizer-limit must be at"),
        (["compare", "--runs", "{run}", "--average-bits", "3", "nan"], "--average-bits must be a number; got nan"),
        (["export", "--run", "{run}", "--allocation", "x", "--target", "table", "--out", "{new}", "--shard-mb", "0"],
         "--shard-mb must be at least 1"),
    ],
)  # fmt: skip
def test_a_value_is_refused_before_the_work(run, tmp_path, capsys, monkeypatch, arguments, words):
    monkeypatch.setattr("mode_core.cli.verbs.load_for", lambda *_: pytest.fail("the model was loaded"))
    filled = [each.format(run=run.path, new=tmp_path / "new") for each in arguments]
    assert main([*filled, "--quiet"]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        (["allocate", "--name", "full"], "{run}/allocations/full.json"),
        (["allocate", "--out", "{out}/a.json"], "{out}/a.json"),
        (["export", "--allocation", "three", "--target", "table", "--out", "{out}/table"], "{out}/table"),
        (["export", "--allocation", "three", "--target", "expert_bits", "--out", "{out}/bits"], "{out}/bits"),
    ],
)
def test_a_disk_that_refuses_is_told_with_path_and_way_out(run, tmp_path, capsys, monkeypatch, arguments, place, code):
    places = {"run": run.path, "out": tmp_path}

    def refuse(_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("os.fsync", refuse)
    verb, *rest = [each.format(**places) for each in arguments]
    assert main([verb, "--run", str(run.path), *rest, "--quiet"]) == 1
    told = capsys.readouterr().err
    assert f"{place.format(**places)}: {os.strerror(code)}." in told
    assert ("Make room" if code == errno.ENOSPC else "Get the right") in told
    assert not list(tmp_path.rglob("*"))


OF_RUN = {"quantize": ["--uniform", "2"], "export": ["--allocation", "three", "--target", "table", "--out", "{out}/t"]}
READS = [([verb, "--run", "{run}", *OF_RUN.get(verb, [])], "{run}/run.json")
         for verb in ("allocate", "quantize", "evaluate", "show", "check", "export")]  # fmt: skip
READS += [
    (["compare", "--runs", "{run}"], "{run}/run.json"),
    (["export", "--run", "{run}", *OF_RUN["export"]], "{run}/allocations/three.json"),
    (["allocate", "--run", "{run}", "--traffic", "{out}/given"], "{out}/given"),
    (["calibrate", "--samples", "{out}/given.jsonl", "--out", "{out}/new"], "{out}/given.jsonl"),
    (["import", "{out}/given", "{out}/given", "--out", "{out}/new"], "{out}/given"),
    (["run", "{out}/given", "--run", "{out}/new", "--out", "{out}/t"], "{out}/given"),
    (["push", "{out}", "--to", "me/mine"], "{out}/manifest.json"),
]


@pytest.mark.parametrize(("arguments", "file"), READS, ids=lambda given: given[0] if isinstance(given, list) else "")
def test_what_may_not_be_read_is_told_by_every_verb(run, tmp_path, capsys, monkeypatch, arguments, file):
    """Refused where Python opens a file, since whoever runs the tests may have every right."""
    places = {"run": run.path, "out": tmp_path}
    for name in ("given", "given.jsonl", "manifest.json"):
        (tmp_path / name).write_text("{}")
    really, wanted = open, file.format(**places)

    def refuse(path, *how, **more):
        if str(path) == wanted:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return really(path, *how, **more)

    monkeypatch.setattr("io.open", refuse)
    assert main([*(each.format(**places) for each in arguments), "--quiet"]) == 1
    assert f"{wanted}: Permission denied. Get the right to read" in capsys.readouterr().err
    assert not (tmp_path / "new").exists() and not (tmp_path / "t").exists()


def test_csv_carries_no_formulas():
    table = pd.DataFrame(
        {"=cmd": ["=1+1", "@x", "plain"], "n": [-1.5, 2.0, np.nan], "t": pd.Series(["-2", None, "\tx"], dtype=object)}
    )
    assert csv_of(table).splitlines() == ["'=cmd,n,t", "'=1+1,-1.5,'-2", "'@x,2.0,", "plain,,'\tx"]
    assert list(table.columns) == ["=cmd", "n", "t"], "the table itself stays"
