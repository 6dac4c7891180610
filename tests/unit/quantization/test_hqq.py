"""Half-quadratic quantization against the package's own quantizer and dequantizer."""

import sys

import numpy as np
import pytest
import torch

from mode_core.quantization import dequantize
from mode_core.quantization.hqq import QuantizerMissing, hqq
from mode_core.quantization.packing import pack_matrices
from mode_core.quantization.sizes import matrix_bytes

WIDTHS = (1, 2, 3, 4, 5, 6, 8)


def weights(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).standard_t(3, shape) * 0.02, dtype=torch.float32)


def theirs(matrix: torch.Tensor, bits: int, size: int) -> torch.Tensor:
    """The package alone, as its own linear layer does it: packed, float16 grid, dequantized."""
    from hqq.core.quantize import Quantizer

    packed, meta = Quantizer.quantize(matrix, nbits=bits, group_size=size, axis=1, device="cpu")
    packed, meta = Quantizer.cpu(packed, meta | {"compute_dtype": torch.float16})
    return Quantizer.dequantize(packed, meta)


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("size", [16, 64])
def test_equals_the_package(bits: int, size: int) -> None:
    pytest.importorskip("hqq", reason="the optional package hqq is not installed")
    stack = weights(3, 8, 64, seed=bits)
    codes = hqq(stack, bits, size)
    for matrix, got in zip(stack, dequantize(codes), strict=True):
        expected = theirs(matrix, bits, size).float()
        # the package multiplies in float16: half a step of that type at the largest code, times the scale
        assert torch.allclose(got, expected, rtol=2e-3, atol=2e-3 * float(codes.scales.max()) * 2**bits)


@pytest.mark.parametrize("bits", WIDTHS)
def test_shorter_last_groups_and_packing(bits: int) -> None:
    pytest.importorskip("hqq", reason="the optional package hqq is not installed")
    stack = weights(2, 6, 45, seed=9)
    codes = hqq(stack, bits, 16)  # 16 + 16 + 13
    assert codes.codes.shape == (2, 6, 45)
    assert codes.scales.shape == codes.zeros.shape == (2, 6, 3)
    assert codes.zeros.dtype == torch.float16
    matrices = pack_matrices(codes)
    assert torch.equal(torch.stack([matrix.dequantize() for matrix in matrices]), dequantize(codes))
    assert {matrix.nbytes for matrix in matrices} == {matrix_bytes(6, 45, bits, 16, method="hqq")}
    last = hqq(stack[:, :, 32:], bits, -1)
    assert torch.equal(codes.codes[:, :, 32:], last.codes)


def test_a_missing_package_is_named(monkeypatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "hqq"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    with pytest.raises(QuantizerMissing, match=r"needs the package hqq.*pip install hqq==0\.2\.8\.post1"):
        hqq(weights(1, 2, 8), 3, 8)
