"""Packed bits against Python's own big integers, and byte counts against the tensors that are really made."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mode_core.quantization import WIDTHS, Codes, dequantize, expert_bytes, original_expert_bytes, quantize
from mode_core.quantization.packed_file import read_packed, write_packed
from mode_core.quantization.packing import pack, pack_matrices, packed_length, unpack
from mode_core.quantization.sizes import matrix_bytes
from mode_core.request import Quantizer
from mode_core.statistics import BankShape


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.integers(1, 8), st.integers(1, 40), st.integers(0, 10_000))
def test_round_trip_and_layout(bits: int, count: int, seed: int) -> None:
    codes = torch.tensor(np.random.default_rng(seed).integers(0, 1 << bits, (2, count)), dtype=torch.uint8)
    packed = pack(codes, bits)
    assert torch.equal(unpack(packed, bits, count), codes)
    for row, stream in zip(codes.tolist(), packed, strict=True):
        number = sum(code << (bits * place) for place, code in enumerate(row))
        assert bytes(stream.tolist()) == number.to_bytes(packed_length(count, bits), "little")


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    bits=st.sampled_from((0, *WIDTHS)),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 50)),
    group_size=st.sampled_from([1, 7, 16, 32, -1]),
    symmetric=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_any_shape_packs_to_the_counted_bytes_and_back(
    bits, shape, group_size, symmetric, seed, tmp_path_factory
) -> None:
    stack = torch.tensor(np.random.default_rng(seed).standard_t(3, shape), dtype=torch.float32)
    codes = quantize(stack, bits, group_size, symmetric)
    matrices = pack_matrices(codes)
    assert torch.equal(torch.stack([matrix.dequantize() for matrix in matrices]), dequantize(codes))
    assert {matrix.nbytes for matrix in matrices} == {matrix_bytes(*shape[1:], bits, group_size, symmetric)}
    assert all(torch.equal(m.unpack().codes, codes.codes[i]) for i, m in enumerate(matrices))
    if bits == 0:
        assert not bool(dequantize(codes).any())
    place = tmp_path_factory.getbasetemp() / "packed.safetensors"
    experts = {("bank", i, "up"): matrix for i, matrix in enumerate(matrices)}
    write_packed(place, experts, Quantizer(), {"other": pack_matrices(codes)[0]})
    read = read_packed(place).experts
    assert torch.equal(torch.stack([read["bank", i, "up"].dequantize() for i in range(len(stack))]), dequantize(codes))
    assert torch.equal(read_packed(place).linears["other"].dequantize(), matrices[0].dequantize())


def test_fractional_zero_points_are_kept_as_they_are(tmp_path) -> None:
    codes = torch.tensor([[[0, 3, 1]]], dtype=torch.uint8)
    scales, zeros = torch.full((1, 1, 1), 0.5).half(), torch.full((1, 1, 1), 1.25).half()
    (matrix,) = pack_matrices(Codes(codes, scales, zeros, 2, 3, (1, 1, 3)))
    write_packed(tmp_path / "one", {("bank", 0, "up"): matrix}, Quantizer())
    read = read_packed(tmp_path / "one").experts["bank", 0, "up"]
    assert read.dequantize().tolist() == matrix.dequantize().tolist() == [[-0.625, 0.875, -0.125]]
    assert read.nbytes == 1 + 2 + 2


def test_refusals() -> None:
    with pytest.raises(ValueError, match="uint8 below 4"):
        pack(torch.tensor([4], dtype=torch.uint8), 2)
    with pytest.raises(ValueError, match="take 2 bytes; got 3"):
        unpack(torch.zeros(3, dtype=torch.uint8), 3, 5)
    with pytest.raises(ValueError, match="1 to 8 bits; got 9"):
        pack(torch.zeros(1, dtype=torch.uint8), 9)


@pytest.mark.parametrize(("bits", "symmetric"), itertools.product(WIDTHS, (True, False)))
def test_packed_matrices_dequantize_to_the_same_values_and_weigh_what_is_counted(bits: int, symmetric: bool) -> None:
    stack = torch.tensor(np.random.default_rng(bits).normal(size=(3, 7, 45)), dtype=torch.float32)
    codes = quantize(stack, bits, 16, symmetric)
    matrices = pack_matrices(codes)
    assert torch.equal(torch.stack([matrix.dequantize() for matrix in matrices]), dequantize(codes))
    assert {matrix.nbytes for matrix in matrices} == {matrix_bytes(7, 45, bits, 16, symmetric)}


@pytest.mark.parametrize("has_gate", [True, False])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("group_size", [32, 128, -1])
def test_expert_bytes_equal_the_packed_tensors(has_gate: bool, symmetric: bool, group_size: int) -> None:
    shape = BankShape(layer=0, experts=4, hidden=45, intermediate=13, top_k=2, has_gate=has_gate)
    ones = torch.ones(1, 13, 45)
    counted = expert_bytes(shape, (*WIDTHS, 16), group_size, symmetric, by_projection=True)
    for row, bits in zip(counted.tolist(), WIDTHS, strict=False):
        entrance = pack_matrices(quantize(ones, bits, group_size, symmetric))[0].nbytes
        down = pack_matrices(quantize(ones.mT, bits, group_size, symmetric))[0].nbytes
        assert row == [entrance * (2 if has_gate else 1), down]
    assert counted[-1].sum() == original_expert_bytes(shape)
    total = expert_bytes(shape, (*WIDTHS, 16), group_size, symmetric)
    assert total.dtype == np.int64
    assert total.tolist() == counted.sum(axis=1).tolist()


def test_published_arithmetic() -> None:
    # 4 bits, groups of 128, 16-bit scales: 4 + 16/128 = 4.125 bits a weight
    shape = BankShape(layer=0, experts=128, hidden=2048, intermediate=768, top_k=8)
    assert expert_bytes(shape, (4,))[0] * 8 / (3 * 2048 * 768) == 4.125
