"""Importance from attention rows: |Q| × L scores beside the fast kernel, never L × L."""

from __future__ import annotations

import torch
from torch import Tensor

AT_ONCE = 1 << 26  # attention weights in memory at one time


def weighted_rows(
    query: Tensor,
    key: Tensor,
    mask: Tensor | None,
    scaling: float,
    weights: Tensor,
    sinks: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Σ_i w_i · mean over heads of softmax(q_i·kᵀ): importance `[S, batch, L]` of every position.

    `query` `[batch, heads, L, D]` and `key` `[batch, kv heads, L, D]` as the model's attention gets them (after
    rotary embedding); `mask` what it gets beside them: boolean (true = may look), additive, or None for plain
    causal; `weights` `[S, batch, L]`, S sets of row weights, zero for most rows. `sinks` `[heads]` (gpt-oss) or
    `[batch, heads, L, 1]` (a row's own, Inkling 2): logits that take their share of every softmax without being a
    position. `bias` `[batch, heads, L, L]`: added to the logits (relative positions of Inkling).

    Memory: `AT_ONCE` float32 attention weights.
    """
    batch, heads, length, size = query.shape
    rows, valid = _rows(weights)
    picked = weights.gather(2, rows.expand(len(weights), *rows.shape)) * valid
    importance = torch.zeros(weights.shape, device=query.device)
    keys = key.float().mT
    step = max(1, AT_ONCE // (batch * heads * length))
    for first in range(0, rows.shape[1], step):
        part = rows[:, first : first + step]
        states = query.gather(2, part[:, None, :, None].expand(batch, heads, -1, size)).float()
        grouped = states.reshape(batch, key.shape[1], -1, size)  # heads that share a key head lie together
        logits = (grouped @ keys).reshape(batch, heads, part.shape[1], length) * scaling
        if bias is not None:
            logits = logits + _picked(bias, part)
        beside = _picked(sinks, part) if sinks is not None and sinks.dim() == 4 else sinks
        shares = _shares(_masked(logits, mask, part), beside).mean(dim=1)
        shares = torch.where(valid[:, first : first + step, None], shares, 0)  # stand-ins may see nothing at all
        importance += torch.einsum("sbr,brl->sbl", picked[:, :, first : first + step], shares)
    return importance


def _shares(logits: Tensor, sinks: Tensor | None) -> Tensor:
    """Softmax over the positions, `[batch, heads, R, L]`; with a sink a row sums to less than 1."""
    if sinks is None:
        return logits.softmax(dim=-1)
    beside = (sinks if sinks.dim() == 4 else sinks.reshape(1, -1, 1, 1)).float().expand(*logits.shape[:-1], 1)
    return torch.cat([logits, beside], dim=-1).softmax(dim=-1)[..., :-1]


def _rows(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Rows that any set uses: positions `[batch, R]` (R = the most in one sample) and which of them are real."""
    used = (weights != 0).any(dim=0)
    most = max(1, int(used.sum(dim=1).max()))
    found = used.int().topk(most, dim=1, sorted=True)
    return found.indices, found.values.bool()


def _masked(logits: Tensor, mask: Tensor | None, rows: Tensor) -> Tensor:
    """Logits `[batch, heads, R, L]` with what a row may not see at −∞."""
    length = logits.shape[-1]
    if mask is None:
        seen = torch.arange(length, device=rows.device) <= rows[..., None]
        return logits.masked_fill(~seen[:, None], -torch.inf)
    part = _picked(mask[..., :length].expand(logits.shape[0], *mask.shape[1:-1], -1), rows)
    return logits.masked_fill(~part, -torch.inf) if part.dtype == torch.bool else logits + part


def _picked(whole: Tensor, rows: Tensor) -> Tensor:
    """Of `[batch, heads or 1, L, K]` the rows at `[batch, R]`: `[batch, heads or 1, R, K]`."""
    return whole.gather(2, rows[:, None, :, None].expand(-1, whole.shape[1], -1, whole.shape[3]))
