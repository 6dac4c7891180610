"""Vision tokens in the order in which a greedy choice of a diverse set takes them (DivPrune, arXiv 2503.02175)."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from mode_core.modalities import CODES, RANKED
from mode_core.probing.signals.base import SignalInput
from mode_core.probing.signals.duplication import nearest_similarity


class Diversity:
    """Greedy max–min cosine distance: first the token farthest from its nearest neighbour, then always the one
    farthest from all taken so far; score = −(place in that order)."""

    def scores(self, view: SignalInput) -> Tensor:
        """`[batch, L]`, zero outside vision (and audio) tokens. Memory: one vector per vision token; time: N²
        distances."""
        scores = torch.zeros(view.modality.shape, device=view.modality.device)
        for row, code in product(range(len(scores)), (CODES[name] for name in RANKED)):
            vision = torch.nonzero(view.modality[row] == code).ravel()
            if len(vision):
                unit = torch.nn.functional.normalize(view.features[row, vision].float(), dim=1)
                order = greedy_order(unit)
                scores[row, vision[order]] = -torch.arange(len(order), device=scores.device, dtype=scores.dtype)
        return scores


def greedy_order(unit: Tensor) -> Tensor:
    """Unit vectors `[N, H]` → their order of choice, int64 `[N]`; of equal distances the earlier token."""
    order = torch.empty(len(unit), dtype=torch.long, device=unit.device)
    order[0] = (1 - nearest_similarity(unit)).argmax()
    distance = 1 - unit @ unit[order[0]]
    distance[order[0]] = -torch.inf
    for place in range(1, len(unit)):
        order[place] = distance.argmax()
        distance = torch.minimum(distance, 1 - unit @ unit[order[place]])
        distance[order[place]] = -torch.inf
    return order
