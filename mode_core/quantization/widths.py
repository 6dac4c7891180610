"""The widths and quantizers that are offered, and how channels fall into groups: plain numbers, without torch."""

from __future__ import annotations

from mode_core.errors import SettingsError

WIDTHS = (1, 2, 3, 4, 5, 6, 8)
DROPPED = 0  # the width of an expert that is left out: it takes no bytes and its weights are zeros
UNTOUCHED = 16  # the width that means "left as it was"
GROUP_SIZE = 128
PER_CHANNEL = -1
METHOD_NAMES = ("rtn", "hqq", "gptq")
PAPER_BITS = 4  # attention and shared experts in the paper's released code
REAL_ZERO_BITS = 16  # hqq's zero points are fractions, kept in float16


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


def check_width(bits: int) -> None:
    """Refuse a width that is not offered.

    Raises:
        SettingsError: with the widths that are.
    """
    if bits not in (DROPPED, *WIDTHS):
        raise SettingsError(f"bits must be one of {(DROPPED, *WIDTHS)}; got {bits}.")


def check_method(method: str) -> None:
    """Refuse a quantizer that is not offered.

    Raises:
        SettingsError: with those that are.
    """
    if method not in METHOD_NAMES:
        raise SettingsError(f"There is no quantizer {method!r} here; choose one of: {', '.join(METHOD_NAMES)}.")


def zero_point_bits(bits: int, symmetric: bool, method: str = "rtn") -> int:
    """Bits that one group's zero point takes: none on a symmetric grid (nor at 1 bit, whose levels are ±), as many
    as a code on an asymmetric one, and 16 with `hqq`, whatever `symmetric` says."""
    check_method(method)
    if bits == DROPPED:
        return 0
    if method == "hqq":
        return REAL_ZERO_BITS
    return 0 if symmetric or bits == 1 else bits
