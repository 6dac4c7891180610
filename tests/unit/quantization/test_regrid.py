"""Rounding again on known scales against rounding with a search; seed 0."""

import pytest
import torch

from mode_core.quantization.grids import dequantize, quantize
from mode_core.quantization.regrid import CHUNK, regrid


@pytest.mark.parametrize("bits", [0, 1, 2, 3, 4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("shape", "group_size"), [((6, 64), 16), ((5, 72), 32), ((3, 24), 24), ((4, 40), 128)])
def test_the_same_values_as_codes_stand_for(bits, symmetric, shape, group_size):
    torch.manual_seed(0)
    weights = torch.randn(shape).bfloat16()
    codes = quantize(weights, bits, group_size, symmetric)
    again = regrid(weights, codes.scales, codes.zeros, bits, codes.group_size)
    assert again.dtype == torch.float32
    torch.testing.assert_close(again, dequantize(codes), rtol=0, atol=0)


def test_blocks_and_a_given_place_change_nothing(monkeypatch):
    torch.manual_seed(0)
    weights = torch.randn(37, 48)
    codes = quantize(weights, 3, 16)
    monkeypatch.setitem(CHUNK, "cpu", 100)
    place = torch.full((37, 48), torch.nan)
    assert regrid(weights, codes.scales, codes.zeros, 3, 16, out=place) is place
    torch.testing.assert_close(place, dequantize(codes), rtol=0, atol=0)
