"""The llama-quantize command on a GGUF file that gguf-py wrote, under the names that gguf-py gives these tensors."""

import os
import re
import stat
import subprocess

import numpy as np
import pytest

from mode_core.allocation import allocate
from mode_core.cli import main
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
    result = export("gguf_script", allocation, tmp_path / "out", statistics=STATISTICS, costs=COSTS)
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


@pytest.fixture
def arguments(allocation, tmp_path):
    """What llama-quantize gets when the script is run with these words."""
    result = export("gguf_script", allocation, tmp_path / "out", statistics=STATISTICS, costs=COSTS)
    spy = tmp_path / "bin" / "llama-quantize"
    spy.parent.mkdir()
    spy.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    spy.chmod(spy.stat().st_mode | stat.S_IXUSR)
    environment = os.environ | {"PATH": f"{spy.parent}:{os.environ['PATH']}"}

    def told(*words: str, **more: str) -> list[str]:
        command = ["sh", str(tmp_path / "out" / "llama-quantize.sh"), *words]
        return subprocess.run(
            command, capture_output=True, text=True, env=environment | more, check=True
        ).stdout.split()

    told.result = result
    return told


def test_the_script_passes_every_rule_on(arguments, tmp_path) -> None:
    passed = arguments("in.gguf", "out.gguf")
    assert passed[-3:] == ["in.gguf", "out.gguf", "q8_0"]
    assert passed[0:-3:2] == ["--tensor-type"] * 9
    assert passed[1:-3:2] == [f"{pattern}={chosen}" for pattern, chosen in rules_of(tmp_path / "out")]


def test_a_type_for_everything_else_is_the_last_rule(arguments) -> None:
    """As a third argument bf16 would make llama-quantize leave out every rule."""
    plain, passed = arguments("in.gguf", "out.gguf"), arguments("in.gguf", "out.gguf", "bf16")
    assert passed == [*plain[:-3], "--tensor-type", ".*=bf16", "in.gguf", "out.gguf", "q8_0"]


def test_an_importance_matrix_is_passed_on(arguments) -> None:
    plain = arguments("in.gguf", "out.gguf")
    assert arguments("in.gguf", "out.gguf", IMATRIX="i.gguf") == ["--imatrix", "i.gguf", *plain]


def test_blocks_that_are_not_filled_are_told(arguments, tmp_path) -> None:
    manifest = arguments.result.manifest
    assert manifest["price_of_unit"]["unit_written"] == "projection" and "estimate" in manifest["notes"][0]
    told = [note for note in manifest["notes"] if "no whole blocks of q3_k: llama-quantize writes q4_0 there" in note]
    assert told and told[0] in (tmp_path / "out" / "llama-quantize.sh").read_text()


def test_a_finished_file_is_checked_against_the_plan(arguments, tmp_path, capsys) -> None:
    """With the types as planned it passes; with what llama-quantize took instead the difference is named."""
    gguf = pytest.importorskip("gguf", reason="gguf is not installed")
    planned = {pattern.strip("^$").replace("\\", ""): kind for pattern, kind in rules_of(tmp_path / "out")}

    def written(kinds: dict[str, str]) -> str:
        path = tmp_path / "model.gguf"
        writer = gguf.GGUFWriter(path, "qwen3vlmoe")
        for name, kind in kinds.items():
            kept = gguf.GGMLQuantizationType[kind.upper()]
            _, size = gguf.GGML_QUANT_SIZES[kept]
            writer.add_tensor(name, np.zeros((2, size), np.uint8), raw_dtype=kept)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return str(path)

    verify = ["export", "--out", str(tmp_path / "out"), "--json", "--quiet", "--verify"]
    assert main([*verify, written(planned)]) == 0
    assert '"as_planned": true' in capsys.readouterr().out
    other = next(iter(planned))
    assert main([*verify, written(planned | {other: "q4_0"})]) == 1
    assert f"{other} is Q4_0 where {planned[other].upper()} was planned" in capsys.readouterr().err
    assert main([*verify, written({other: planned[other]})]) == 1
    assert "is not in the file where" in capsys.readouterr().err
    (tmp_path / "no.gguf").write_bytes(b"GGUX" + bytes(40))
    assert main([*verify, str(tmp_path / "no.gguf")]) == 1 and "no.gguf is not a readable" in capsys.readouterr().err
    assert main([*verify[:-1], "--verify", str(tmp_path / "model.gguf"), "--out", str(tmp_path)]) == 1
    assert "holds no plan of types" in capsys.readouterr().err
