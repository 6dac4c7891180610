"""The quantizers by name, and one way to quantize a stack of matrices without looking at data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.util import find_spec

from torch import Tensor

from mode_core.errors import QuantizationError
from mode_core.quantization.grids import Codes, dropped, quantize
from mode_core.quantization.hqq import hqq
from mode_core.quantization.widths import DROPPED, group_length


@dataclass(frozen=True)
class Method:
    """What a quantizer is called, whether it looks at samples, and the optional package it needs."""

    name: str
    title: str
    needs_samples: bool = False
    package: str | None = None

    def __call__(self, weights: Tensor, bits: int, group_size: int, symmetric: bool) -> Codes:
        """A stack `[n, out, in]` → codes, by the quantizers that look at weights alone.

        Raises:
            QuantizationError: this one needs samples, and so the model in memory.
        """
        if self.needs_samples:
            raise QuantizationError(
                f"The quantizer {self.name!r} looks at samples and needs the whole model in memory; choose one of: "
                f"{', '.join(name for name, method in METHODS.items() if not method.needs_samples)}."
            )
        return quantize_data_free(weights, bits, group_size, symmetric, self.name)

    @property
    def available(self) -> bool:
        """False where its package is not installed."""
        return self.package is None or find_spec(self.package) is not None


METHODS: dict[str, Method] = {
    "rtn": Method("rtn", "round to nearest with a clip search (the paper's grid)"),
    "hqq": Method("hqq", "half-quadratic, data-free, fractional zero points", package="hqq"),
    "gptq": Method("gptq", "second-order, from the tokens routed to each expert", needs_samples=True),
}
DATA_FREE = "rtn"  # what stands in where a quantizer that needs tokens has too few


def quantize_data_free(weights: Tensor, bits: int, group_size: int, symmetric: bool, method: str = DATA_FREE) -> Codes:
    """A stack `[n, out, in]` → codes on the CPU, by `rtn` or `hqq`; width 0 keeps nothing."""
    if bits == DROPPED:
        return dropped(tuple(weights.shape), group_length(weights.shape[-1], group_size))
    if method == "hqq":
        return on_cpu(hqq(weights, bits, group_size))
    return on_cpu(quantize(weights, bits, group_size, symmetric))


def on_cpu(codes: Codes) -> Codes:
    """The same codes on the CPU, where packed codes are kept."""
    zeros = None if codes.zeros is None else codes.zeros.cpu()
    return replace(codes, codes=codes.codes.cpu(), scales=codes.scales.cpu(), zeros=zeros)
