"""The blocked, batched solver against one that eliminates one column after another with an explicit inverse."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mode_core.quantization import dequantize, quantize
from mode_core.quantization.gptq import HessianError, gptq, inverse_factor


def drawn(count: int, rows: int, columns: int, seed: int, tokens: int = 300) -> tuple[torch.Tensor, torch.Tensor]:
    """Heavy-tailed weights `[n, out, in]` and inputs `[n, tokens, in]` whose channels hang together; seeded."""
    draw = np.random.default_rng(seed)
    weights = draw.standard_t(3, (count, rows, columns)) * 0.02
    mixing = draw.normal(size=(columns, columns)) / columns**0.5 + 0.3 * np.eye(columns)
    inputs = draw.normal(size=(count, tokens, columns)) @ mixing
    return torch.tensor(weights, dtype=torch.float32), torch.tensor(inputs, dtype=torch.float32)


def scalar_grid(group: np.ndarray, bits: int, symmetric: bool) -> tuple[float, int, int, int]:
    """(scale, zero, lowest, highest) of one group by the definition of the clip search, in float64."""
    if bits == 1:
        return float(np.float16(np.abs(group).mean())), 0, -1, 1
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if symmetric else (0, 2**bits - 1)
    best = (np.inf, 0.0, 0)
    for step in range(80):
        share = 1 - step / 100
        if symmetric:
            scale, zero = float(np.float16(share * np.abs(group).max() / high)), 0
        else:
            floor, top = min(group.min(), 0.0), max(group.max(), 0.0)
            scale = float(np.float16(share * (top - floor) / high))
            zero = int(np.clip(np.round(-share * floor / scale), 0, high))
        values = (np.clip(np.round(group / scale) + zero, low, high) - zero) * scale
        if (error := (np.abs(group - values) ** 2.4).sum()) < best[0]:
            best = (error, scale, zero)
    return best[1], best[2], low, high


def slow_row(row: np.ndarray, hessian: np.ndarray, bits: int, size: int, symmetric: bool) -> np.ndarray:
    """One output channel: fix a column, let the others make up for it, take it out of the inverse; in float64."""
    row, columns = row.astype(np.float64).copy(), len(row)
    inverse = np.linalg.inv(hessian + 0.01 * np.diag(hessian).mean() * np.eye(columns))
    values = np.zeros(columns)
    for column in range(columns):
        if column % size == 0:
            scale, zero, low, high = scalar_grid(row[column : column + size], bits, symmetric)
        if bits == 1:
            values[column] = scale if row[column] >= 0 else -scale
        else:
            values[column] = (np.clip(np.round(row[column] / scale) + zero, low, high) - zero) * scale
        row -= (row[column] - values[column]) / inverse[column, column] * inverse[column]
        inverse -= np.outer(inverse[:, column], inverse[column]) / inverse[column, column]
        inverse[column, column] = 1.0  # done: its row and column are zeros, and are not read again
    return values


@pytest.mark.parametrize(
    ("bits", "symmetric", "size", "block"),
    [(3, True, 16, 32), (2, False, 16, 16), (4, True, 24, 8), (1, True, 48, 20), (3, False, 10, 32), (2, True, -1, 7)],
)
def test_equals_elimination_one_column_after_another(bits: int, symmetric: bool, size: int, block: int) -> None:
    weights, inputs = drawn(2, 6, 40, seed=bits)
    hessians = inputs.mT @ inputs
    ours = dequantize(gptq(weights, hessians, bits, size, symmetric, block=block)).numpy()
    same = total = 0
    for matrix, hessian, got in zip(weights, hessians, ours, strict=True):
        for row, values in zip(matrix.numpy(), got, strict=True):
            expected = slow_row(row, hessian.double().numpy(), bits, 40 if size == -1 else size, symmetric)
            same += np.allclose(values, expected, rtol=1e-5, atol=1e-7)
            total += 1
    assert total == 12
    assert same >= 11  # a tie between two scales, or a weight halfway between two levels, may fall the other way


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.sampled_from([1, 2, 3, 4, 8]), st.sampled_from([5, 16, 32, -1]), st.booleans())
def test_what_comes_back_lies_on_the_grid_and_blocks_do_not_matter(seed: int, bits: int, size: int, symmetric) -> None:
    weights, inputs = drawn(1, 4, 37, seed, tokens=60)
    hessian = inputs.mT @ inputs
    codes = gptq(weights, hessian, bits, size, symmetric)
    assert int(codes.codes.max()) < 2**bits
    assert codes.scales.shape == (1, 4, -(-37 // codes.group_size))
    assert (codes.zeros is None) == (symmetric or bits == 1)
    one_by_one = dequantize(gptq(weights, hessian, bits, size, symmetric, block=1))
    close = torch.isclose(dequantize(codes), one_by_one, rtol=1e-4, atol=1e-6).float().mean()
    assert close > 0.85  # sums in another order may tip a weight, and then those after it


def test_independent_channels_are_rounded_to_nearest() -> None:
    weights, _ = drawn(3, 5, 48, seed=1)
    hessians = torch.diag_embed(torch.rand(3, 48, generator=torch.Generator().manual_seed(0)) + 0.1)
    ours, plain = gptq(weights, hessians, 3, 16), quantize(weights, 3, 16)
    assert torch.equal(ours.codes, plain.codes)
    assert torch.equal(ours.scales, plain.scales)


def test_a_channel_without_input_is_rounded_as_it_is() -> None:
    weights, inputs = drawn(1, 5, 32, seed=2)
    inputs[:, :, 7] = 0
    codes = gptq(weights, inputs.mT @ inputs, 8, 1)
    assert torch.allclose(dequantize(codes)[0, :, 7], weights[0, :, 7], rtol=1e-2)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_the_output_error_is_less_than_that_of_rounding_to_nearest(bits: int) -> None:
    weights, inputs = drawn(3, 32, 64, seed=3, tokens=1000)
    seen, unseen = inputs[:, :700], inputs[:, 700:]
    errors = {}
    for name, codes in (("gptq", gptq(weights, seen.mT @ seen, bits, 32)), ("rtn", quantize(weights, bits, 32))):
        errors[name] = (unseen @ (dequantize(codes) - weights).mT).square().mean(dim=(1, 2))
    assert bool((errors["gptq"] < 0.9 * errors["rtn"]).all())


def test_the_factor_is_that_of_the_inverse_also_where_tokens_are_few() -> None:
    _, inputs = drawn(2, 1, 50, seed=4, tokens=9)  # rank 9 of 50: only the damping makes it definite
    hessians = inputs.mT @ inputs
    upper = inverse_factor(hessians).double()
    damping = 0.01 * hessians.diagonal(dim1=1, dim2=2).mean(dim=1)
    damped = hessians.double() + damping[:, None, None] * torch.eye(50)
    assert torch.allclose(upper.mT @ upper @ damped, torch.eye(50, dtype=torch.float64).expand(2, -1, -1), atol=2e-3)
    assert torch.equal(upper, upper.triu())


def test_refusals() -> None:
    weights, inputs = drawn(1, 4, 8, seed=5)
    with pytest.raises(ValueError, match=r"need Hessians of shape \(1, 8, 8\); got \(1, 4, 4\)"):
        gptq(weights, torch.eye(4)[None], 3, 8)
    with pytest.raises(HessianError, match="NaN or infinity"):
        gptq(weights, torch.full((1, 8, 8), float("nan")), 3, 8)
    with pytest.raises(ValueError, match="bits must be one of"):
        gptq(weights, inputs.mT @ inputs, 7, 8)
