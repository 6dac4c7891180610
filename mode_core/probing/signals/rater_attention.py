"""Attention from rater tokens only: text that itself relates to the picture (SparseVLM, arXiv 2410.04417)."""

from __future__ import annotations

import torch
from torch import Tensor

from mode_core.probing.redundancy import is_ranked
from mode_core.probing.signals.base import SignalInput, even_weights


class RaterAttention:
    """As `text_attention`, from those rows of Q whose relevance exceeds the mean relevance.

    Relevance of text token t: softmax over Q of h_v·h_t, averaged over the vision and audio tokens v, on the features
    that enter the language model. Where no row exceeds the mean (all alike), all rows are raters.
    """

    layer: int | None = None

    def row_weights(self, view: SignalInput) -> Tensor:
        """The raters alike, other rows nothing: `[batch, L]`. Memory: vision × text tokens of one sample."""
        raters = torch.zeros_like(view.query)
        for row, (query, modality) in enumerate(zip(view.query, view.modality, strict=True)):
            text, vision = torch.nonzero(query).ravel(), torch.nonzero(is_ranked(modality)).ravel()
            if not len(vision):
                continue
            features = view.features[row].float()
            relevance = (features[vision] @ features[text].mT).softmax(dim=1).mean(dim=0)
            above = relevance > relevance.mean()
            raters[row, text[above] if above.any() else text] = True
        return even_weights(raters)
