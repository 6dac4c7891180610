"""The llama-quantize command on a GGUF file that gguf-py wrote, under the names that gguf-py gives these tensors."""

import os
import re
import stat
import subprocess

import numpy as np
import pytest

from mode_core.allocation import allocate
from mode_core.export import export
from mode_core.importance import cost_table
from tests.synthetic import synthetic_statistics

STATISTICS = synthetic_statistics(banks=3, experts=4, seed=8)
COSTS = cost_table(STATISTICS, "mode_output")


@pytest.fixture
def allocation():
    return allocate(COSTS, average_bits=3.0, scope="model")


def rules_of(folder) -> list[tuple[str, str]]:
    """(pattern, type), as llama-quantize splits them: at the last equals sign."""
    return [tuple(line.rsplit("=", 1)) for line in (folder / "tensor-types.txt").read_text().splitlines()]


def test_each_pattern_matches_one_tensor_of_the_file(allocation, tmp_path) -> None:
    gguf = pytest.importorskip("gguf", reason="gguf is not installed")
    result = export("gguf", allocation, tmp_path / "out", statistics=STATISTICS, costs=COSTS)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3VLMOE, 3)
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "qwen3vlmoe")
    expected = {}
    for layer, bank in enumerate(STATISTICS):
        for projection in ("gate", "up", "down"):
            name = names.get_name(f"model.layers.{layer}.mlp.experts.{projection}_proj") + ".weight"
            writer.add_tensor(name, np.zeros([4, 8, 8], dtype=np.float32))
            width = result.fitted.allocation.bits[bank.name][0, int(projection == "down")]
            expected[name] = {2: "q2_k", 3: "q3_k", 4: "q4_k"}[width]
        for near in ("ffn_gate_inp", "attn_q", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{near}.weight", np.zeros([8, 8], dtype=np.float32))
        writer.add_tensor(f"blk.1{layer}.ffn_gate_exps.weight", np.zeros([4, 8, 8], dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    stored = [tensor.name for tensor in gguf.GGUFReader(tmp_path / "model.gguf").tensors]
    rules = rules_of(tmp_path / "out")
    for pattern, chosen in rules:
        (held,) = [name for name in stored if re.search(pattern, name)]
        assert expected.pop(held) == chosen
    assert not expected
    types = {kind.name.lower() for kind in gguf.GGMLQuantizationType}
    assert {chosen for _, chosen in rules} <= types


def test_the_script_passes_every_rule_on(allocation, tmp_path) -> None:
    export("gguf", allocation, tmp_path / "out", statistics=STATISTICS, costs=COSTS)
    spy = tmp_path / "bin" / "llama-quantize"
    spy.parent.mkdir()
    spy.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    spy.chmod(spy.stat().st_mode | stat.S_IXUSR)
    environment = os.environ | {"PATH": f"{spy.parent}:{os.environ['PATH']}"}
    command = ["sh", str(tmp_path / "out" / "llama-quantize.sh"), "in.gguf", "out.gguf"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    passed = done.stdout.split()
    assert passed[-3:] == ["in.gguf", "out.gguf", "q8_0"]
    assert passed[0:-3:2] == ["--tensor-type"] * 9
    assert passed[1:-3:2] == [f"{pattern}={chosen}" for pattern, chosen in rules_of(tmp_path / "out")]


def test_blocks_that_are_not_filled_are_told(allocation, tmp_path) -> None:
    result = export("gguf", allocation, tmp_path / "out", statistics=STATISTICS, costs=COSTS)
    assert "takes a wider type where blocks are not filled" in (tmp_path / "out" / "llama-quantize.sh").read_text()
    assert result.manifest["price_of_unit"]["unit_written"] == "projection"
    assert "estimate" in result.manifest["notes"][0]
