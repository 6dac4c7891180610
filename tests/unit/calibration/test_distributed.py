"""Two real processes, started by torchrun, calibrate together and equal one process alone.

torchrun opens a port on 127.0.0.1 and picks a free one itself.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mode_core.calibration import CalibrationSettings, calibrate
from mode_core.cli import main
from mode_core.run import Run
from mode_core.samples import read_samples
from mode_core.statistics.exemplars import Exemplars

ROOT = Path(__file__).resolve().parents[3]
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "mode_core")
OPTIONS = ("--measure-bits", "2", "4", "--group-size", "16", "--batch-size", "2", "--device", "cpu", "--no-gradients",
           "--exemplars", "3")  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory, tiny_model_folder, tiny_samples) -> list[str]:
    """The tiny model and samples, as options; one sample is refused by the tokenizer."""
    folder = tmp_path_factory.mktemp("together") / "samples"
    folder.mkdir()
    lines = [json.dumps({"id": "bad", "images": [], "messages": [{"role": "user", "content": "<|im_end|> ?"}]})]
    for number, sample in enumerate(tiny_samples):
        names = [f"{number}-{place}.png" for place in range(len(sample.images))]
        for name, picture in zip(names, sample.images, strict=True):
            picture.load().save(folder / name)
        lines.append(json.dumps({"id": sample.id, "images": names, "messages": list(sample.messages)}))
    (folder / "samples.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return ["--model", str(tiny_model_folder), "--samples", str(folder), *OPTIONS]


@pytest.fixture(scope="module")
def alone(source, tmp_path_factory) -> Run:
    out = tmp_path_factory.mktemp("alone") / "run"
    assert main(["calibrate", *source, "--out", str(out), "--quiet"]) == 0
    return Run.open(out)


def assert_same(run: Run, alone: Run) -> None:
    assert run.state == "done" and run.statistics.samples == alone.statistics.samples
    for name, bank in alone.statistics.banks.items():
        for key, array in bank.arrays.items():
            mine = run.statistics.banks[name].arrays[key]
            if any(word in key for word in ("selections", "support", "tokens")):
                np.testing.assert_array_equal(mine, array, err_msg=key)
            # Products in float32 round by how their operands lie in memory, and each process has its own.
            np.testing.assert_allclose(mine, array, rtol=1e-5, atol=1e-7, err_msg=key)
    assert run.info["refused"] == alone.info["refused"] and run.info["tokens"] == alone.info["tokens"]
    assert [r["id"] for r in run.sample_records()] == [r["id"] for r in alone.sample_records()]
    assert list(run.token_scores()) == list(alone.token_scores())
    assert list(run.token_routes()) == list(alone.token_routes()) != []
    best, reference = Exemplars.load(run.path), Exemplars.load(alone.path)
    for bank, table in reference.tables.items():
        mine = best.tables[bank]
        np.testing.assert_allclose(mine["weight"], table["weight"], rtol=1e-5)
        for name in set(table.dtype.names) - {"weight"}:
            np.testing.assert_array_equal(mine[name], table[name], err_msg=name)
    assert not [name for name in ("parts", "rounding", ".spare") if (run.path / name).exists()]


def test_two_processes_continue_what_was_cut_off_and_equal_one(source, alone, tiny_model, tmp_path):
    """Two parts lie there as a killed calibration of more processes leaves them."""
    out, samples = Run.create(tmp_path / "run").path, read_samples(source[3])
    settings = CalibrationSettings(bits=(2, 4), group_size=16, batch_size=2, exemplars=3)
    for number, few in ((0, samples[4:6]), (3, samples[6:8])):
        part = Run.create(out / "parts" / str(number))
        calibrate(tiny_model, few, settings, run=part)
    command = [*TORCHRUN, "calibrate", *source, "--out", str(out), "--json", "--resume"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=250)
    assert ended.returncode == 0, ended.stderr.decode()[-3000:]
    assert json.loads(ended.stdout)["samples"] == 8  # printed by one process alone
    assert_same(Run.open(out), alone)
