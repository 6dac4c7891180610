"""Which steps of the clip search can be the best one: told from a table, before any error is computed exactly.

On a symmetric grid the error of one weight depends only on u = w / max abs(w) of its group, on the width and on the
step: one table of `PLACES` values of u × steps serves every group, and the errors of a group at all steps are a sum of
table rows. Weights between two places, and scales rounded to the type they are stored in, move each error by little,
and since errors are summed to a norm of order 2.4, the triangle inequality bounds by how much: steps whose lower bound
lies above another step's upper bound cannot be the best. What is left (three to eight of 80) is computed exactly, so
the scale found is the one that the whole search finds.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

PLACES = 4096  # of u in −1 … 1; more places, fewer steps to compute exactly, until the table leaves the cache
FUZZ = 1e-5  # room for float32 rounding in the bounds


def clip_bounds(
    groups: Tensor, top: Tensor, shares: Tensor, lowest: int, highest: int, norm: float, scale_dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Lower and upper bound of every group's error at every step, as norms (error = bound ** norm): both `[n, steps]`.

    `groups` float32 `[n, g]`, `top` `[n]` their largest magnitude (at least 1e-30), `shares` the steps' part of the
    range, and `lowest` … `highest` the integer levels. The bounds hold for scales `share · top / highest` rounded to
    `scale_dtype`. Memory: `n × steps` floats six times.
    """
    table = _table(tuple(shares.tolist()), lowest, highest, norm, groups.device)
    half = PLACES / 2
    place = (groups * (half / top)[:, None]).add_(half).clamp_(0, PLACES - 1).to(torch.int32)
    norms = torch.nn.functional.embedding_bag(place, table, mode="sum").pow_(1 / norm)
    known = torch.finfo(scale_dtype)
    smallest = known.smallest_normal * known.eps / 2  # half of the finest step: what scales near zero are rounded by
    moved = (smallest / (shares.min() * top / highest)).clamp_min(known.eps / 2)[:, None]  # relative error of scales
    between = groups.shape[1] ** (1 / norm) / PLACES
    error, size = norms[:, :-1], norms[:, -1:] + between
    slack = moved * (error + size) + between + FUZZ * size
    return (error - slack).mul_(top[:, None]), (error + slack).mul_(top[:, None])


@lru_cache(maxsize=32)
def _table(shares: tuple[float, ...], lowest: int, highest: int, norm: float, device: torch.device) -> Tensor:
    """abs(u − û)^norm of every place at every step, and abs(u)^norm as the last column: `[PLACES, steps + 1]`."""
    place = (torch.arange(PLACES, dtype=torch.float64)[:, None] + 0.5) / (PLACES / 2) - 1
    scale = torch.tensor(shares, dtype=torch.float64) / highest
    error = place - (place / scale).round().clamp(lowest, highest) * scale
    return torch.cat([error, place], dim=1).abs().pow(norm).float().to(device)
