"""Numbers in words. Bytes in powers of 1000 everywhere, as files and downloads are told; cards are sold by powers of
1024."""

from __future__ import annotations

from dataclasses import dataclass

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
SCALES = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


def number(value: float, digits: int = 2) -> str:
    """A small number as people write it: '0.012', '4.6×10⁻⁵'; never '4.6e-05'."""
    mantissa, _, exponent = f"{value:.{digits}g}".partition("e")
    return mantissa + (power_of_ten(int(exponent)) if exponent else "")


def power_of_ten(exponent: int) -> str:
    """'×10⁻³'."""
    return f"×10{str(exponent).translate(_RAISED)}"


def percent(share: float) -> str:
    """A share of all as '12 %'; below one percent with the digit that tells it from none: '0.1 %'."""
    return f"{100 * share:.0f} %" if share >= 0.0095 or not share else f"{100 * share:.1g} %"


def size_text(size: float) -> str:
    """'32.5 kB', '3.42 MB', '14.1 GB'; 'minus' stands before what is below 0."""
    sign, size = "minus " * (size < 0), abs(size)
    unit, scale = next(((unit, scale) for unit, scale in SCALES if size >= scale), ("bytes", 1))
    return f"{sign}{size / scale:.3g} {unit}" if scale > 1 else f"{sign}{size:.0f} {unit}"


@dataclass(frozen=True)
class MemoryUnit:
    """A unit of memory: its sign, its name in words, and its bytes."""

    name: str
    words: str
    size: float


def memory_unit(most: float) -> MemoryUnit:
    """The unit in which sizes of at most `most` bytes are written short: megabytes, or gigabytes from 2 GB on."""
    return MemoryUnit("GB", "Gigabytes", 1e9) if most >= 2e9 else MemoryUnit("MB", "Megabytes", 1e6)
