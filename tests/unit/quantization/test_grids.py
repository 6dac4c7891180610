"""Grids against a slow scalar implementation in float64, and the properties that any such grid must have."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mode_core.quantization import WIDTHS, dequantize, fake_quantize, grids, quantize

NORM = 2.4


def weights(*shape: int, seed: int = 0, heavy: bool = False) -> torch.Tensor:
    draw = np.random.default_rng(seed)
    values = draw.standard_t(3, shape) if heavy else draw.normal(size=shape)
    return torch.tensor(values * 0.02, dtype=torch.float32)


def levels_of(bits: int, symmetric: bool) -> tuple[int, int]:
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if symmetric else (0, 2**bits - 1)


def rounded(group: list[float], scale: float, zero: int, bits: int, symmetric: bool) -> list[float]:
    low, high = levels_of(bits, symmetric)
    return [(min(max(round(w / scale) + zero, low), high) - zero) * scale for w in group]


def error_of(group: list[float], values: list[float]) -> float:
    return sum(abs(w - v) ** NORM for w, v in zip(group, values, strict=True))


def scalar_search(group: list[float], bits: int, symmetric: bool, signed: bool = False) -> tuple[float, list[float]]:
    """(error, values) of one group by plain loops: the definition, one number after another."""
    if bits == 1:
        scale = float(np.float16(np.mean(np.abs(np.float32(group)))))
        values = [scale if w >= 0 else -scale for w in group]
        return error_of(group, values), values
    high = levels_of(bits, symmetric)[1]
    best = (math.inf, group)
    for step in range(80):
        share = 1 - step / 100
        if symmetric:
            top = max(group) if signed else max(abs(w) for w in group)
            scale, zero = float(np.float16(share * top / high)), 0
        else:
            low, top = min(*group, 0.0), max(*group, 0.0)
            scale = float(np.float16(share * (top - low) / high))
            zero = min(max(round(-share * low / scale), 0), high)
        values = rounded(group, scale, zero, bits, symmetric)
        if (error := error_of(group, values)) < best[0]:
            best = (error, values)
    return best


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("group_size", [32, -1])
def test_equals_the_scalar_definition(bits: int, symmetric: bool, group_size: int) -> None:
    matrix = weights(3, 72, seed=bits, heavy=True)  # 72 = 32 + 32 + 8: the last group is shorter
    ours = fake_quantize(matrix, bits, group_size, symmetric).double().numpy()
    width = 72 if group_size == -1 else group_size
    same = total = 0
    for row, got in zip(matrix.double().tolist(), ours.tolist(), strict=True):
        for first in range(0, 72, width):
            group, values = row[first : first + width], got[first : first + width]
            error, expected = scalar_search(group, bits, symmetric)
            assert error_of(group, values) == pytest.approx(error, rel=2e-5)
            same += np.allclose(values, expected, rtol=1e-6, atol=1e-9)
            total += 1
    assert same >= total - 1  # two scales of equal error may change places in float32


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_signed_maximum_quirk_follows_the_released_search(bits: int) -> None:
    matrix = -weights(4, 32, seed=7).abs() + 0.01  # largest weight negative: where the two readings differ
    quirk = fake_quantize(matrix, bits, 32, signed_maximum_quirk=True)
    assert not torch.equal(quirk, fake_quantize(matrix, bits, 32))
    for row, got in zip(matrix.double().tolist(), quirk.double().tolist(), strict=True):
        error, _ = scalar_search(row, bits, True, signed=True)
        assert error_of(row, got) == pytest.approx(error, rel=2e-5)


def test_two_bits_by_hand() -> None:
    # max|w| = 1 at 2 bits: levels −2..1; shares below 1 only add error here, so the scale stays 1
    codes = quantize(torch.tensor([[1.0, 0.0, -1.0, 0.0]]), 2, -1)
    assert codes.scales.item() == 1.0
    assert codes.codes.tolist() == [[3, 2, 1, 2]]
    assert dequantize(codes).tolist() == [[1.0, 0.0, -1.0, 0.0]]


def test_one_bit_is_the_mean_magnitude_with_the_sign() -> None:
    assert fake_quantize(torch.tensor([[1.0, -2.0, 3.0, -4.0]]), 1).tolist() == [[2.5, -2.5, 2.5, -2.5]]


matrices = st.builds(
    weights,
    st.integers(1, 3),
    st.integers(1, 70),
    seed=st.integers(0, 10_000),
    heavy=st.booleans(),
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(matrices, st.sampled_from(WIDTHS), st.sampled_from([8, 32, -1]), st.booleans())
def test_codes_stay_on_the_grid_and_keep_their_values(matrix, bits, group_size, symmetric) -> None:
    codes = quantize(matrix, bits, group_size, symmetric)
    values = dequantize(codes)
    assert int(codes.codes.max()) < 2**bits
    assert codes.codes.shape == values.shape == matrix.shape
    assert codes.scales.shape[-1] == -(-matrix.shape[-1] // codes.group_size)
    assert codes.scales.dtype == torch.float16
    # a sign flips only where rounding of the zero point made it, by one step at most
    step = codes.scales.float().repeat_interleave(codes.group_size, dim=-1)[..., : matrix.shape[-1]]
    if bits > 1:
        flipped = (values * matrix) < 0
        assert bool((values.abs() <= step)[flipped].all())


@settings(max_examples=30, deadline=None, derandomize=True)
@given(matrices, st.sampled_from([1, 2, 3]), st.sampled_from([32, -1]))
def test_fake_quantize_is_idempotent_where_the_search_can_find_the_grid_again(matrix, bits, group_size) -> None:
    # 1, 2 and 3 bits: the lowest level is 1, 2 and 4/3 scales of the highest, and 1.00, 0.50 and 0.75 are tried
    once = fake_quantize(matrix, bits, group_size)
    assert torch.allclose(fake_quantize(once, bits, group_size), once, rtol=1e-6, atol=0)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(matrices, st.sampled_from([2, 3, 4, 8]), st.booleans())
def test_clip_search_never_does_worse_than_the_full_range(matrix, bits, symmetric) -> None:
    high = levels_of(bits, symmetric)[1]
    for row, got in zip(matrix.double().tolist(), fake_quantize(matrix, bits, -1, symmetric).tolist(), strict=True):
        low, top = (0.0, max(abs(w) for w in row)) if symmetric else (min(*row, 0.0), max(*row, 0.0))
        scale = max(float(np.float16((top - low) / high)), 2.0**-24)
        plain = rounded(row, scale, min(max(round(-low / scale), 0), high), bits, symmetric)
        assert error_of(row, got) <= error_of(row, plain) * (1 + 1e-4) + 1e-20


def test_more_bits_never_cost_more() -> None:
    matrix = weights(2, 16, 128, heavy=True)
    errors = [float((fake_quantize(matrix, bits, 128) - matrix).square().sum()) for bits in WIDTHS]
    assert errors == sorted(errors, reverse=True)


def test_stacks_equal_matrices_one_by_one_and_blocks_do_not_matter(monkeypatch) -> None:
    stack = weights(3, 5, 40, seed=3)
    whole = fake_quantize(stack, 3, 16)
    assert torch.equal(whole, torch.stack([fake_quantize(matrix, 3, 16) for matrix in stack]))
    monkeypatch.setitem(grids.CHUNK, "cpu", 48)
    assert torch.equal(whole, fake_quantize(stack, 3, 16))


def test_zeros_stay_zeros_and_types_are_kept() -> None:
    for symmetric in (True, False):
        assert torch.equal(fake_quantize(torch.zeros(2, 33), 2, 32, symmetric), torch.zeros(2, 33))
    assert fake_quantize(weights(2, 8).bfloat16(), 4).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("matrix", "arguments", "words"),
    [
        (torch.ones(2, 2), {"bits": 7}, "bits must be one of"),
        (torch.ones(2, 2), {"bits": 3, "group_size": 0}, "group_size must be a positive number"),
        (torch.tensor([[1.0, float("nan")]]), {"bits": 3}, "NaN or infinity"),
        (torch.tensor([[1.0, 1e9]]), {"bits": 3}, "use torch.bfloat16"),
        (torch.ones(2, 2, dtype=torch.int32), {"bits": 3}, "floating-point"),
    ],
)
def test_refusals_say_what_is_wrong(matrix, arguments, words) -> None:
    with pytest.raises(ValueError, match=words):
        quantize(matrix, **arguments)
