"""A vision token that looks like another one is redundant (the idea of DART, arXiv 2502.11494, and VisionZip)."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from mode_core.modalities import CODES, RANKED
from mode_core.probing.signals.base import SignalInput

ROWS = 1024  # similarities are computed for this many tokens at once


class Duplication:
    """Score = 1 − the largest cosine similarity to another token of its kind in the sample; 1 for a lone token."""

    def scores(self, view: SignalInput) -> Tensor:
        """`[batch, L]`, zero outside vision (and audio) tokens. Memory: `ROWS` × vision tokens of one sample."""
        scores = torch.zeros(view.modality.shape, device=view.modality.device)
        for row, code in product(range(len(scores)), (CODES[name] for name in RANKED)):
            vision = torch.nonzero(view.modality[row] == code).ravel()
            if len(vision):
                unit = torch.nn.functional.normalize(view.features[row, vision].float(), dim=1)
                scores[row, vision] = 1 - nearest_similarity(unit)
        return scores


def nearest_similarity(unit: Tensor) -> Tensor:
    """Largest cosine similarity of each row to any other row: `[N, H]` → `[N]`; 0 for a lone row."""
    if len(unit) == 1:
        return unit.new_zeros(1)
    nearest = []
    for first in range(0, len(unit), ROWS):
        similarity = unit[first : first + ROWS] @ unit.mT
        own = torch.arange(similarity.shape[0], device=unit.device)
        similarity[own, own + first] = -torch.inf
        nearest.append(similarity.max(dim=1).values)
    return torch.cat(nearest)
