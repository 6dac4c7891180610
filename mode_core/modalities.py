"""Kinds of token as data: what a modality is called, and which of its tokens count as what.

Statistics keep their arrays by these names (`text_selections`, `vision_error/<signal>`), and so do files.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

KEY_RATIO = 0.20  # share of ranked tokens that are key, of the paper and its released code
SIGNAL = "text_attention"  # what ranks them there
UNRANKED = "none"  # in its place: nothing ranks them, and all are key
TEXT_TOKENS, VISION_TOKENS, KEY_TOKENS, REDUNDANT_TOKENS, ALL = "text", "vision", "key", "redundant", "all"
AUDIO_TOKENS, KEY_AUDIO, REDUNDANT_AUDIO = "audio", "key_audio", "redundant_audio"


@dataclass(frozen=True)
class Modality:
    """One modality, and `counted`, the kind of its tokens that the paper counts: all text, key tokens of pictures.

    Signals rank the tokens of one that is `ranked`; one that is not `always` there has arrays, columns and panels only
    in runs that saw such tokens. A sample belongs to the last modality that it holds anything of.
    """

    name: str
    counted: str
    ranked: bool = True
    always: bool = True


@dataclass(frozen=True)
class Kind:
    """One kind of token that selections are counted by: its name in arrays and files, its name in words, and the
    modality it belongs to (`ALL`: every one). `part` is which of its tokens: all, the key or the redundant ones."""

    name: str
    title: str
    modality: str
    part: str = ALL


MODALITIES = {
    one.name: one
    for one in (
        Modality(TEXT_TOKENS, TEXT_TOKENS, ranked=False),
        Modality(VISION_TOKENS, KEY_TOKENS),
        Modality(AUDIO_TOKENS, KEY_AUDIO, always=False),
    )
}
KINDS = {
    one.name: one
    for one in (
        Kind(TEXT_TOKENS, "text tokens", TEXT_TOKENS),
        Kind(VISION_TOKENS, "all vision tokens", VISION_TOKENS),
        Kind(KEY_TOKENS, "key vision tokens", VISION_TOKENS, KEY_TOKENS),
        Kind(REDUNDANT_TOKENS, "redundant vision tokens", VISION_TOKENS, REDUNDANT_TOKENS),
        Kind(AUDIO_TOKENS, "all audio tokens", AUDIO_TOKENS),
        Kind(KEY_AUDIO, "key audio tokens", AUDIO_TOKENS, KEY_TOKENS),
        Kind(REDUNDANT_AUDIO, "redundant audio tokens", AUDIO_TOKENS, REDUNDANT_TOKENS),
        Kind(ALL, "aggregate (all tokens)", ALL),
    )
}
RANKED = tuple(name for name, one in MODALITIES.items() if one.ranked)
USUAL = tuple(name for name, one in MODALITIES.items() if one.always)
CODES = {name: code for code, name in enumerate(MODALITIES, 1)}  # of a position in a batch; 0 is padding


def kinds_of(modalities: Collection[str]) -> tuple[str, ...]:
    """The kinds of token of these modalities, in the order of `KINDS`."""
    return tuple(name for name, kind in KINDS.items() if kind.modality in (*modalities, ALL))


def counted_of(modalities: Collection[str]) -> tuple[str, ...]:
    """The kinds that the paper's cost counts, of these modalities."""
    return tuple(one.counted for name, one in MODALITIES.items() if name in modalities)


def shown_of(modalities: Collection[str]) -> tuple[str, ...]:
    """The kinds that pictures put beside each other, of these modalities: all tokens of each, and its key ones."""
    return tuple(
        name for name in kinds_of(modalities) if KINDS[name].part != REDUNDANT_TOKENS and KINDS[name].modality != ALL
    )


COUNTED = counted_of(USUAL)
