"""The two kinds of signal: a mean over attention rows, or a score from the features that enter the language model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass
class SignalInput:
    """What a signal may look at, for one batch.

    `modality` int8 `[batch, L]`; `query` boolean `[batch, L]`, the text positions Q; `features` `[batch, L, H]`, what
    enters the first decoder layer (None until the model gets there).
    """

    modality: Tensor
    query: Tensor
    features: Tensor | None = None


class AttentionSignal(Protocol):
    """Importance = Σ_i w_i · mean over heads of A[h, i, j]: the signal chooses the weights w of the query rows i.

    `layer` is the one decoder layer whose attention serves all banks, or None where each bank's own layer does.
    """

    layer: int | None

    def row_weights(self, view: SignalInput) -> Tensor: ...


class FeatureSignal(Protocol):
    """Importance of every position from the features, the same for all layers: `[batch, L]`."""

    def scores(self, view: SignalInput) -> Tensor: ...


Signal = AttentionSignal | FeatureSignal


def even_weights(rows: Tensor) -> Tensor:
    """Boolean `[batch, L]` → weights that share 1 evenly among a sample's rows (all zero where it has none)."""
    return rows.float() / rows.sum(dim=1, keepdim=True).clamp_min(1)
