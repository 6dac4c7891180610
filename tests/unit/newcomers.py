"""What a newcomer adds, for tests: a method, a signal and a quantizer, made up and registered for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mode_core.importance import METHODS, estimates
from mode_core.importance.methods import Method
from mode_core.probing.signals import SIGNALS, Signal
from mode_core.quantization.grids import quantize
from mode_core.quantization.quantizers import QUANTIZERS, QuantizerKind


def loudest(view, options):
    """Twice what frequency says."""
    cost, unsupported = estimates.frequency(view, options)
    return 2 * cost, unsupported


class FirstCome:
    """Earlier tokens are kept first."""

    def scores(self, view):
        return -torch.arange(view.modality.shape[1], dtype=torch.float32).expand(view.modality.shape)


def coarse(weights, bits, group_size, symmetric):
    """Round to nearest of the weights' signs and halves."""
    return quantize(torch.round(2 * weights) / 2 + weights.sign() * 1e-3, bits, group_size, symmetric)


@contextmanager
def newcomers() -> Iterator[None]:
    """All three, in their tables."""
    rows = (
        (METHODS, Method(loudest, "the loudest", "rival", "2·f_all·δ_all", "Twice as loud.",
                         "made up")),
        (SIGNALS, Signal("first_come", "First come, first kept", "first come", "earliness", "made up",
                         f"{__name__}:FirstCome")),
        (QUANTIZERS, QuantizerKind("coarse", "Coarse", "Signs and halves.", "the weights", "none",
                                   f"{__name__}:coarse")),
    )  # fmt: skip
    for table, row in rows:
        table[row.name] = row
    try:
        yield
    finally:
        for table, row in rows:
            del table[row.name]
