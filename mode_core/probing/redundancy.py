"""From importance scores to redundancy bins (paper §4): which vision tokens are key, for every key ratio at once.

Audio tokens are ranked by the same definition, among themselves. At key ratio ρ the `max(1, floor(ρ·N))` best of a
sample's N vision tokens are key, the rest redundant. Instead of
one ratio, ranks are kept in 100 bins, chosen so that for every whole percentage κ the tokens in bins below κ are
exactly the key tokens of ρ = κ/100.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mode_core.modalities import CODES, RANKED
from mode_core.models import TEXT, Encoded
from mode_core.statistics import BINS


def bins_at(ranks: Tensor, counts: Tensor) -> Tensor:
    """Bin of rank r among N tokens, elementwise: 0 for r = 0, else ⌈100·(r+1)/N⌉ − 1, in whole numbers."""
    bins = torch.div(BINS * (ranks + 1) - 1, counts.clamp_min(1), rounding_mode="floor")
    return torch.where(ranks == 0, 0, bins)


def is_ranked(modality: Tensor) -> Tensor:
    """Which positions signals rank: boolean, in the shape of `modality`."""
    return torch.isin(modality, torch.tensor([CODES[name] for name in RANKED], device=modality.device))


def redundancy_bins(scores: Tensor, modality: Tensor) -> Tensor:
    """Scores `[batch, L]` (higher = kept first) → bin of every ranked token, int64 `[batch, L]`; −1 elsewhere.

    All images of one sample are ranked together, and all its sounds. Of equal scores the earlier position ranks first.
    """
    bins = torch.full_like(modality, -1, dtype=torch.int64)
    for name in RANKED:
        if (held := modality == CODES[name]).any():
            bins = torch.where(held, _bins_among(scores, held), bins)
    return bins


def _bins_among(scores: Tensor, vision: Tensor) -> Tensor:
    order = torch.where(vision, -scores.double(), torch.inf).argsort(dim=1, stable=True)
    ranks = torch.empty_like(order)
    ranks.scatter_(1, order, torch.arange(order.shape[1], device=order.device).expand_as(order))
    counts = vision.sum(dim=1, keepdim=True).expand_as(ranks)
    return torch.where(vision, bins_at(ranks, counts), -1)


def query_positions(encoded: Encoded) -> Tensor:
    """The text positions Q whose attention says what matters in pictures and sounds: boolean `[batch, L]`.

    Text after the first vision or audio token, without special tokens, without what else the template added. Each of
    these three conditions is left out for a sample where it would leave nothing. Answers never belong to Q, so that a
    sample's key tokens do not depend on what is answered. Samples of text alone have no Q.
    """
    text, vision = (encoded.modality == TEXT) & ~encoded.answer_mask, is_ranked(encoded.modality)
    chosen = text & vision.any(dim=1, keepdim=True)
    for condition in (vision.cummax(dim=1).values, ~encoded.special_mask, ~encoded.template_mask):
        narrowed = chosen & condition
        chosen = torch.where(narrowed.any(dim=1, keepdim=True), narrowed, chosen)
    return chosen
