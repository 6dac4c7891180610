"""The text's attention at one early layer judges the vision tokens for all layers (an option of the paper's code).

FastV (arXiv 2403.06764) judges at the same depth, by the row of the last token only.
"""

from __future__ import annotations

from mode_core.probing.signals.text_attention import TextAttention


class JudgeLayerAttention(TextAttention):
    """As `text_attention`, at decoder layer 2 (counted from 0), or the last one of a shallower model."""

    layer: int | None = 2
