"""Mean attention that a sample's text pays each vision token, in each bank's own layer (paper §4; the default)."""

from __future__ import annotations

from torch import Tensor

from mode_core.probing.signals.base import SignalInput, even_weights


class TextAttention:
    """p_j = mean over heads and over text rows i in Q of A[h, i, j]."""

    layer: int | None = None

    def row_weights(self, view: SignalInput) -> Tensor:
        """Every row of Q alike: `[batch, L]`."""
        return even_weights(view.query)
