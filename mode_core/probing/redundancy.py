"""From importance scores to redundancy bins (paper §4): which vision tokens are key, for every key ratio at once.

At key ratio ρ the `max(1, floor(ρ·N))` best of a sample's N vision tokens are key, the rest redundant. Instead of
one ratio, ranks are kept in 100 bins, chosen so that for every whole percentage κ the tokens in bins below κ are
exactly the key tokens of ρ = κ/100.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mode_core.models import TEXT, VISION, Encoded
from mode_core.statistics import BINS


def bins_at(ranks: Tensor, counts: Tensor) -> Tensor:
    """Bin of rank r among N tokens, elementwise: 0 for r = 0, else ⌈100·(r+1)/N⌉ − 1, in whole numbers."""
    bins = torch.div(BINS * (ranks + 1) - 1, counts.clamp_min(1), rounding_mode="floor")
    return torch.where(ranks == 0, 0, bins)


def redundancy_bins(scores: Tensor, modality: Tensor) -> Tensor:
    """Scores `[batch, L]` (higher = kept first) → bin of every vision token, int64 `[batch, L]`; −1 elsewhere.

    All images of one sample are ranked together. Of equal scores the earlier position ranks first.
    """
    vision = modality == VISION
    order = torch.where(vision, -scores.double(), torch.inf).argsort(dim=1, stable=True)
    ranks = torch.empty_like(order)
    ranks.scatter_(1, order, torch.arange(order.shape[1], device=order.device).expand_as(order))
    counts = vision.sum(dim=1, keepdim=True).expand_as(ranks)
    return torch.where(vision, bins_at(ranks, counts), -1)


def query_positions(encoded: Encoded) -> Tensor:
    """The text positions Q whose attention says what matters in the pictures: boolean `[batch, L]`.

    Text after the first vision token, without special tokens, without what else the template added. Each of these
    three conditions is left out for a sample where it would leave nothing. Answers never belong to Q, so that a
    sample's key tokens do not depend on what is answered. Samples without pictures have no Q.
    """
    text, vision = (encoded.modality == TEXT) & ~encoded.answer_mask, encoded.modality == VISION
    chosen = text & vision.any(dim=1, keepdim=True)
    for condition in (vision.cummax(dim=1).values, ~encoded.special_mask, ~encoded.template_mask):
        narrowed = chosen & condition
        chosen = torch.where(narrowed.any(dim=1, keepdim=True), narrowed, chosen)
    return chosen
