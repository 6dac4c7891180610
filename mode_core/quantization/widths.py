"""The widths that are offered, and how channels fall into groups: plain numbers, without torch."""

from __future__ import annotations

import numpy as np

from mode_core.errors import SettingsError

WIDTHS = (1, 2, 3, 4, 5, 6, 8)
DROPPED = 0  # the width of an expert that is left out: it takes no bytes and its weights are zeros
UNTOUCHED = 16  # the width that means "left as it was"
GROUP_SIZE = 128
PER_CHANNEL = -1
PAPER_BITS = 4  # attention and shared experts in the paper's released code


def group_length(in_features: int, group_size: int) -> int:
    """Input channels per group: −1 and anything wider than the matrix mean the whole row.

    Raises:
        SettingsError: a group size that is neither positive nor −1.
    """
    if group_size != PER_CHANNEL and group_size < 1:
        raise SettingsError(
            f"group_size must be a positive number of input channels, or -1 (per channel); got {group_size}."
        )
    return in_features if group_size == PER_CHANNEL else min(group_size, in_features)


def by_side(bits: np.ndarray) -> np.ndarray:
    """Bits of gate and up, and of down: int `[E]`, or already `[E, 2]` → int `[E, 2]`."""
    bits = np.asarray(bits)
    return bits if bits.ndim == 2 else np.stack([bits, bits], axis=1)


def check_width(bits: int) -> None:
    """Refuse a width that is not offered.

    Raises:
        SettingsError: with the widths that are.
    """
    if bits not in (DROPPED, *WIDTHS):
        raise SettingsError(f"bits must be one of {(DROPPED, *WIDTHS)}; got {bits}.")
