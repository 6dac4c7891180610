"""The clip search by shortlist against trying every step, on weights of many kinds; seed 0."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mode_core.quantization.search import ERROR_NORM, SEARCH_GRID, SEARCH_STEPS, Grid, levels
from mode_core.quantization.shortlist import clip_bounds


def every_step(grid: Grid, groups: torch.Tensor) -> torch.Tensor:
    """The scale of the first least error, by trying all steps one after another."""
    top, highest = groups.abs().amax(dim=1), levels(grid.bits, True)[1]
    best, found = torch.full_like(top, float("inf")), torch.zeros_like(top)
    for step in range(SEARCH_STEPS):
        scale = grid._stored((1 - step / SEARCH_GRID) * top / highest)
        error = grid._error(groups, scale, None)
        better = error < best
        best, found = torch.where(better, error, best), torch.where(better, scale, found)
    return found


def kinds(size: int) -> torch.Tensor:
    """Groups of many kinds, `[n, size]`: normal, heavy tails, outliers, one sign, few values, tiny, zeros, huge."""
    torch.manual_seed(0)
    normal = torch.randn(40, size)
    tails = torch.distributions.StudentT(2.0).sample((40, size))
    outlier = torch.randn(20, size) * 0.01
    outlier[:, 0] = 3.0
    few = torch.randint(-2, 3, (20, size)).float()
    tiny, huge = torch.randn(20, size) * 1e-7, torch.randn(20, size) * 3000
    lone = torch.zeros(5, size)
    lone[1:, -1] = torch.tensor([1.0, -1.0, 1e-6, 5e4])
    return torch.cat([normal, tails, outlier, normal.abs(), few, tiny, huge, lone])


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("size", [1, 16, 128])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_the_scale_of_every_step_tried(bits, size, kind):
    groups = kinds(size).to(kind).float()
    for scale_dtype in (torch.float16, torch.bfloat16, torch.float32):
        grid = Grid(bits, True, scale_dtype=scale_dtype)
        torch.testing.assert_close(grid.search(groups)[0], every_step(grid, groups), rtol=0, atol=0)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-10, 10, width=32), min_size=2, max_size=40), st.sampled_from([2, 3, 4]))
def test_any_group(values, bits):
    groups, grid = torch.tensor([values]), Grid(bits, True)
    torch.testing.assert_close(grid.search(groups)[0], every_step(grid, groups), rtol=0, atol=0)


@pytest.mark.parametrize("bits", [2, 4])
def test_the_bounds_hold_and_are_narrow(bits):
    groups, grid = kinds(128)[:100], Grid(bits, True)
    top, (lowest, highest) = groups.abs().amax(dim=1), levels(bits, True)
    shares = torch.tensor([1 - step / SEARCH_GRID for step in range(SEARCH_STEPS)])
    below, above = clip_bounds(groups, top, shares, lowest, highest, ERROR_NORM, torch.float16)
    exact = torch.stack([grid._error(groups, grid._stored(s * top / highest), None) for s in shares], dim=1)
    exact = exact.pow(1 / ERROR_NORM)
    assert (below <= exact).all() and (exact <= above).all()
    assert ((below <= above.amin(dim=1, keepdim=True)).float().sum(dim=1).mean()) < 15
