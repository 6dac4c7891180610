"""Second-order quantization (Frantar et al., GPTQ, 2023; arXiv 2210.17323), for a stack of experts at once.

With the Hessian H = Σ x·xᵀ of what enters a matrix, columns are rounded from first to last, and what rounding one
column did to the output is made up for by those that follow:

    w[j] −= (w[i] − ŵ[i]) · U[i, j] / U[i, i],    j > i,    H⁻¹ = Uᵀ·U with U upper triangular

Columns are worked on in blocks; those after a block are changed once per block. Scales come from the clip search
(`search`) over a group's weights as they stand when its first column is reached. No activation order. A channel in
which no token was ever different from 0 is rounded as it is.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mode_core.errors import HessianError, SettingsError
from mode_core.quantization.grids import Codes, check_weights
from mode_core.quantization.search import Grid

DAMPING = 0.01  # of the mean of the Hessian's diagonal, added to it
BLOCK = 128
FACTORED_AT_ONCE = 1 << 26  # numbers of Hessians that are factored together: 256 MB in float32


def gptq(
    weights: Tensor,
    hessians: Tensor,
    bits: int,
    group_size: int,
    symmetric: bool = True,
    damping: float = DAMPING,
    block: int = BLOCK,
) -> Codes:
    """Weights `[n, out, in]` and their Hessians `[n, in, in]` (any scale) → `Codes`.

    Memory: `FACTORED_AT_ONCE` numbers (or one Hessian) four times in float32, and as much of the weights twice.

    Raises:
        HessianError: see there. ValueError: as `quantize`, or shapes that do not belong together.
    """
    size = check_weights(weights, bits, group_size, torch.float16)
    count, rows, columns = weights.shape
    if hessians.shape != (count, columns, columns):
        raise SettingsError(
            f"{count} matrices of {columns} input channels need Hessians of shape {(count, columns, columns)}; "
            f"got {tuple(hessians.shape)}."
        )
    grid = Grid(bits, symmetric or bits == 1)
    groups = -(-columns // size)
    codes = torch.empty(weights.shape, dtype=torch.uint8, device=weights.device)
    scales = torch.empty(count, rows, groups, dtype=torch.float16, device=weights.device)
    zeros = None if grid.symmetric else torch.empty_like(scales, dtype=torch.uint8)
    step = max(1, FACTORED_AT_ONCE // columns**2)
    for first in range(0, count, step):
        part = slice(first, first + step)
        factor = inverse_factor(hessians[part], damping)
        places = (codes[part], scales[part], None if zeros is None else zeros[part])
        _solve(weights[part].detach().float().clone(), factor, grid, size, block, places)
    return Codes(codes, scales, zeros, bits, size, tuple(weights.shape))


def inverse_factor(hessians: Tensor, damping: float = DAMPING) -> Tensor:
    """U `[n, in, in]`, upper triangular, with H⁻¹ = Uᵀ·U of the damped Hessians; float32.

    With J the reversal of all channels, J·H·J = L·Lᵀ gives U = (J·L·J)⁻¹: one factorization and one triangular
    inverse. Where float32 does not suffice for a matrix it is factored in float64.

    Raises:
        HessianError: see there.
    """
    damped = hessians.float().clone()
    diagonal = damped.diagonal(dim1=1, dim2=2)
    alive = diagonal > 0
    mean = (diagonal * alive).sum(dim=1, keepdim=True) / alive.sum(dim=1, keepdim=True).clamp_min(1)
    diagonal += damping * mean + torch.where(alive, 0.0, mean)
    flipped = damped.flip(1, 2)
    lower, info = torch.linalg.cholesky_ex(flipped)
    for place in info.nonzero().ravel().tolist():
        exact, failed = torch.linalg.cholesky_ex(flipped[place].double())
        if int(failed) or not bool(exact.isfinite().all()):
            raise HessianError(
                f"The Hessian of matrix {place} cannot be factored (damping {damping:g}): the inputs it was summed "
                "from hold NaN or infinity, or the damping is too small."
            )
        lower[place] = exact.float()
    unit = torch.eye(hessians.shape[1], device=hessians.device)
    return torch.linalg.solve_triangular(lower.flip(1, 2), unit.expand_as(lower), upper=True)


def _solve(
    weights: Tensor,
    factor: Tensor,
    grid: Grid,
    size: int,
    block: int,
    places: tuple[Tensor, Tensor, Tensor | None],
) -> None:
    """Round `weights` `[n, out, in]` (overwritten) column by column into codes, scales and zeros."""
    codes, scales, zeros = places
    columns = weights.shape[2]
    scale = zero = None
    for first, last in _blocks(columns, size, block):
        inside, across = weights[:, :, first:last], factor[:, first:last, first:last]
        errors = torch.empty_like(inside)
        for column in range(first, last):
            place = column - first
            if column % size == 0:
                group = weights[:, :, column : min(column + size, columns)]
                scale, zero = grid.search(group.reshape(-1, group.shape[2]))
                scales[:, :, column // size] = scale.reshape(scales.shape[:2])
                if zeros is not None:
                    zeros[:, :, column // size] = zero.reshape(scales.shape[:2]).to(torch.uint8)
            level = grid.codes(inside[:, :, place].reshape(-1, 1), scale, zero)
            codes[:, :, column] = level.reshape(scales.shape[:2])
            rounded = grid.values(level, scale, zero).reshape(scales.shape[:2])
            errors[:, :, place] = (inside[:, :, place] - rounded) / across[:, place, place, None]
            inside[:, :, place + 1 :] -= errors[:, :, place, None] * across[:, None, place, place + 1 :]
        weights[:, :, last:] -= errors @ factor[:, first:last, last:]


def _blocks(columns: int, size: int, block: int) -> Iterator[tuple[int, int]]:
    """Cut the columns so that a group's weights are up to date when its first column is reached: a block holds whole
    groups, or a part of one."""
    span = max(1, block // size) * size
    for first in range(0, columns, span):
        last = min(first + span, columns)
        for start in range(first, last, block if size > block else span):
            yield start, min(start + (block if size > block else span), last)
