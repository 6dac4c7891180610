"""Every matrix of every routed expert as a linear layer of its own, as formats with separate experts name them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from mode_core.quantization.widths import by_side, group_length
from mode_core.statistics import BankShape


@dataclass(frozen=True)
class ExpertModule:
    """`<bank>.<expert>.<projection>_proj`, its width, and its input channels (0 where they are not known)."""

    name: str
    bits: int
    channels: int

    def group(self, group_size: int) -> int:
        """Input channels that share a scale."""
        return group_length(self.channels, group_size)


def expert_modules(bits: Mapping[str, np.ndarray], shapes: Mapping[str, BankShape]) -> Iterator[ExpertModule]:
    """Bank by bank, expert by expert, gate, up, down; gated where the bank's shape is not known."""
    for bank, widths in bits.items():
        shape = shapes.get(bank)
        sizes = (0, 0) if shape is None else (shape.hidden, shape.intermediate)
        for expert, pair in enumerate(by_side(widths).tolist()):
            for projection in ("gate", "up", "down") if shape is None or shape.has_gate else ("up", "down"):
                side = int(projection == "down")
                yield ExpertModule(f"{bank}.{expert}.{projection}_proj", pair[side], sizes[side])
