"""Kinds of token as data: what a modality is called, and which of its tokens count as what.

Statistics keep their arrays by these names (`text_selections`, `vision_error/<signal>`), and so do files.
"""

from __future__ import annotations

from dataclasses import dataclass

KEY_RATIO = 0.20  # share of vision tokens that are key, of the paper and its released code
SIGNAL = "text_attention"  # what ranks them there
UNRANKED = "none"  # in its place: nothing ranks them, and all are key
TEXT_TOKENS, VISION_TOKENS, KEY_TOKENS, REDUNDANT_TOKENS, ALL = "text", "vision", "key", "redundant", "all"


@dataclass(frozen=True)
class Modality:
    """One modality, and `counted`, the kind of its tokens that the paper counts: all text, key tokens of pictures."""

    name: str
    counted: str


@dataclass(frozen=True)
class Kind:
    """One kind of token that selections are counted by: its name in arrays and files, its name in words, and the
    modality it belongs to (`ALL`: every one)."""

    name: str
    title: str
    modality: str


MODALITIES = {one.name: one for one in (Modality(TEXT_TOKENS, TEXT_TOKENS), Modality(VISION_TOKENS, KEY_TOKENS))}
KINDS = {
    one.name: one
    for one in (
        Kind(TEXT_TOKENS, "text tokens", TEXT_TOKENS),
        Kind(VISION_TOKENS, "all vision tokens", VISION_TOKENS),
        Kind(KEY_TOKENS, "key vision tokens", VISION_TOKENS),
        Kind(REDUNDANT_TOKENS, "redundant vision tokens", VISION_TOKENS),
        Kind(ALL, "aggregate (text + all vision)", ALL),
    )
}
COUNTED = tuple(modality.counted for modality in MODALITIES.values())
