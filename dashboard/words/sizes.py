"""Bytes in words: powers of 1000 everywhere, as files and downloads are told; cards are sold by powers of 1024."""

from __future__ import annotations

from dataclasses import dataclass

SCALES = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


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
