"""The levels of one width, and the search for the scale (and zero point) of each group of weights.

The search tries the range times 1.00, 0.99, …, 0.21 and keeps the one with the least Σ abs(w−ŵ)^2.4 (the first of
equals): the clip search of the paper's released code (norm 2.4, grid 100, largest shrink 0.8). On symmetric grids most
steps are ruled out by bounds (`shortlist`); on the others every step is tried. Both find the same scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mode_core.quantization.shortlist import FUZZ, clip_bounds

SEARCH_STEPS, SEARCH_GRID, ERROR_NORM = 80, 100, 2.4
PRUNE_EVERY = 8  # search steps between two looks at which groups cannot improve any more


def levels(bits: int, symmetric: bool) -> tuple[int, int]:
    """Lowest and highest integer level of the grid (1 bit: its two levels are −1 and +1)."""
    if bits == 1:
        return -1, 1
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if symmetric else (0, 2**bits - 1)


@dataclass(frozen=True)
class Grid:
    """The levels of one width and the search for the scale of each group `[n, g]`."""

    bits: int
    symmetric: bool
    signed_maximum: bool = False
    scale_dtype: torch.dtype = torch.float16

    def codes(self, groups: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
        """Nearest codes, uint8 `[n, g]`, counted from the lowest level."""
        if self.bits == 1:
            return (groups >= 0).to(torch.uint8)
        lowest, highest = levels(self.bits, self.symmetric)
        level = torch.div(groups, scale[:, None]).round_()
        if zero is not None:
            level += zero[:, None]
        return level.clamp_(lowest, highest).sub_(lowest).to(torch.uint8)

    def values(self, codes: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
        """What codes `[n, g]` stand for, float32: the inverse of `codes`."""
        level = codes.float()
        if zero is not None:
            level -= zero[:, None]
        elif self.bits == 1:
            level.mul_(2).sub_(1)
        else:
            level += levels(self.bits, True)[0]
        return level.mul_(scale[:, None])

    def search(self, groups: Tensor) -> tuple[Tensor, Tensor | None]:
        """Best scale `[n]` (float32, rounded as stored) and zero point `[n]` of groups `[n, g]`."""
        if self.bits == 1:
            return self._stored(groups.abs().mean(dim=1)), None
        low, high = torch.aminmax(groups, dim=1)
        if self.symmetric:
            top = torch.maximum(high, -low)
            if not self.signed_maximum:
                return self._best_of_shortlist(groups, top), None
            scale, zero = self._stored(top / levels(self.bits, True)[1]), None
            low, high = None, (high if self.signed_maximum else top)
        else:
            low, high = low.clamp_max(0), high.clamp_min(0)
            scale, zero = self._candidate(low, high, 1.0)
        return self._descend(groups, low, high, scale, zero)

    def _best_of_shortlist(self, groups: Tensor, top: Tensor) -> Tensor:
        """The scale that trying every step of a symmetric grid finds, from the few steps that can be the best.

        First the likeliest step of every group is computed exactly, then those whose lower bound is below that.
        """
        shares = torch.tensor([1 - step / SEARCH_GRID for step in range(SEARCH_STEPS)], device=groups.device)
        lowest, highest = levels(self.bits, True)
        below, above = clip_bounds(groups, top.clamp_min(1e-30), shares, lowest, highest, ERROR_NORM, self.scale_dtype)
        likeliest = torch.zeros_like(above, dtype=torch.bool).scatter_(1, above.argmin(dim=1, keepdim=True), True)
        errors = torch.full_like(above, float("inf"))
        self._compute(errors, likeliest, groups, top, shares)
        least = errors.amin(dim=1, keepdim=True).pow(1 / ERROR_NORM) * (1 + FUZZ)
        self._compute(errors, (below <= least) & ~likeliest, groups, top, shares)
        return self._stored(shares[errors.argmin(dim=1)] * top / highest)

    def _compute(self, errors: Tensor, wanted: Tensor, groups: Tensor, top: Tensor, shares: Tensor) -> None:
        """Write the exact errors of the wanted steps, `[n, steps]`."""
        highest = levels(self.bits, True)[1]
        for rows, steps in zip(*(part.split(len(groups)) for part in wanted.nonzero(as_tuple=True)), strict=True):
            tried = self._stored(shares[steps] * top[rows] / highest)
            errors[rows, steps] = self._error(groups[rows], tried, None)

    def _descend(
        self, groups: Tensor, low: Tensor | None, high: Tensor, scale: Tensor, zero: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Try every shrink step; groups that no later step can improve are dropped on the way.

        That is exact: the range only shrinks from step to step, so the error of what lies outside it is a
        lower bound on the error of every later step.
        """
        best = torch.full_like(scale, float("inf"))
        active = torch.arange(len(groups), device=groups.device)
        for step in range(SEARCH_STEPS):
            tried, shift = self._candidate(low, high, 1 - step / SEARCH_GRID)
            error = self._error(groups, tried, shift)
            better = error < best[active]
            target = active[better]
            best[target], scale[target] = error[better], tried[better]
            if zero is not None:
                zero[target] = shift[better]
            if step % PRUNE_EVERY == PRUNE_EVERY - 1 and not self.signed_maximum:
                keep = self._clipped(groups, tried, shift) <= best[active] * 1.0001  # 1.0001: rounding of the sums
                if not bool(keep.any()):
                    break
                groups, active, high = groups[keep], active[keep], high[keep]
                low = None if low is None else low[keep]
        return scale, zero

    def _candidate(self, low: Tensor | None, high: Tensor, share: float) -> tuple[Tensor, Tensor | None]:
        """Scale and zero point of the range times `share`."""
        highest = levels(self.bits, self.symmetric)[1]
        if low is None:
            return self._stored(share * high / highest), None
        scale = self._stored((share * high - share * low) / highest)
        return scale, torch.round(-share * low / scale).clamp_(0, highest)

    def _stored(self, scale: Tensor) -> Tensor:
        """The scale as it comes back from storage; never 0, so that a group of zeros stays zeros."""
        if self.signed_maximum:
            return scale.to(self.scale_dtype).float()
        smallest = torch.finfo(self.scale_dtype).smallest_normal / (1 << 10)
        smallest = max(smallest, torch.finfo(torch.float32).smallest_normal)
        return scale.clamp_min(smallest).to(self.scale_dtype).float()

    def _error(self, groups: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
        """Σ abs(w−ŵ)^2.4 over each group, `[n]`; NaN where a signed maximum is 0 (never better than any)."""
        lowest, highest = levels(self.bits, self.symmetric)
        level = torch.div(groups, scale[:, None]).round_()
        if zero is None:
            level.clamp_(lowest, highest)
        else:
            level.add_(zero[:, None]).clamp_(lowest, highest).sub_(zero[:, None])
        return _norm(level.mul_(scale[:, None]).sub_(groups))

    def _clipped(self, groups: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
        """Part of the error that no range inside this one can avoid, `[n]`: that of the weights outside it.

        Rounded scales can move an asymmetric zero point by one level; the range is widened by as much.
        """
        lowest, highest = levels(self.bits, self.symmetric)
        if zero is None:
            floor, ceiling = lowest * scale, highest * scale
        else:
            floor, ceiling = (lowest - zero - 1) * scale, (highest - zero + 1) * scale
        outside = groups - torch.clamp(groups, floor[:, None], ceiling[:, None])
        return _norm(outside)


def _norm(difference: Tensor) -> Tensor:
    """Σ abs(d)^2.4 over the last axis, in place; through logarithms, which take half the time of `pow`."""
    return difference.abs_().log2_().mul_(ERROR_NORM).exp2_().sum(dim=1)
