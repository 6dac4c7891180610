"""What is to be quantized to which width, checked against the model before anything is touched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from mode_core.allocation.records import Allocation
from mode_core.errors import QuantizationError
from mode_core.models import ExpertBank, LoadedModel
from mode_core.quantization.rest import rest_linears
from mode_core.quantization.settings import Quantizer
from mode_core.quantization.widths import DROPPED, UNTOUCHED, WIDTHS, by_side

SIDES = ("up", "down")  # what enters a bank, and what leaves its activation: columns of the plan's widths


@dataclass(frozen=True)
class Plan:
    """`experts[bank]` int `[E, 2]`: widths of gate and up, and of down. `linears[module]`: layer and width."""

    experts: dict[str, np.ndarray]
    linears: dict[str, tuple[nn.Linear, int]]

    def touched(self, bank: str) -> list[int]:
        """Experts of a bank that are quantized and kept, on one side at least."""
        return np.flatnonzero(~np.isin(self.experts[bank], (DROPPED, UNTOUCHED)).all(axis=1)).tolist()


def make_plan(loaded: LoadedModel, allocation: Allocation, quantizer: Quantizer) -> Plan:
    """The plan of an allocation and of the quantizer's widths for attention and shared experts (None: untouched).

    Raises:
        QuantizationError: the allocation is for other banks or another number of experts; a width that is not offered;
            shared experts asked for in a model that has none; weights that are not in memory.
    """
    banks = loaded.banks
    if set(banks) != set(allocation.bits):
        missing = sorted(set(banks) - set(allocation.bits)) or ["none"]
        unknown = sorted(set(allocation.bits) - set(banks)) or ["none"]
        raise QuantizationError(
            "The allocation is for another model. Banks of the model without bits: "
            f"{_some(missing)}. Banks of the allocation that the model lacks: {_some(unknown)}."
        )
    experts = {name: _widths(bank, np.asarray(allocation.bits[name])) for name, bank in banks.items()}
    return Plan(experts, planned_linears(loaded.model, quantizer))


def _widths(bank: ExpertBank, bits: np.ndarray) -> np.ndarray:
    if bits.shape not in ((bank.experts,), (bank.experts, 2)):
        raise QuantizationError(
            f"Bank {bank.name} of the model has {bank.experts} experts; the allocation's bits have shape "
            f"{bits.shape} where ({bank.experts},) or ({bank.experts}, 2) is needed."
        )
    offered = (DROPPED, *WIDTHS, UNTOUCHED)
    if strange := sorted(set(bits.ravel().tolist()) - {*offered}):
        raise QuantizationError(f"Bank {bank.name}: widths {strange} are not offered; choose from {offered}.")
    for projection in bank.projections:
        if bank.matrix(projection, 0).device.type == "meta":
            raise QuantizationError(f"The weights of {bank.name} are not in memory (offloaded); load the model whole.")
    return by_side(bits)


def planned_linears(model: nn.Module, quantizer: Quantizer) -> dict[str, tuple[nn.Linear, int]]:
    """Layers of attention and shared experts that get a width: module → (layer, width); None or 16 leaves a part as it
    is.

    Raises:
        QuantizationError: a width for a part that the model does not have.
    """
    linears = list(rest_linears(model))
    widths = {"attention": quantizer.attention_bits, "shared": quantizer.shared_bits}
    for part, width in widths.items():
        if width not in (None, UNTOUCHED) and part not in {which for _, _, which in linears}:
            names = "shared experts" if part == "shared" else "attention layers"
            raise QuantizationError(
                f"{type(model).__name__} has no {names} that could have {width} bits; leave {part}_bits out."
            )
    chosen = {name: (linear, widths[part]) for name, linear, part in linears}
    return {name: (linear, width) for name, (linear, width) in chosen.items() if width not in (None, UNTOUCHED)}


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
