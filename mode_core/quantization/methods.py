"""One way to quantize a stack of matrices without looking at data, whichever quantizer it is."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from mode_core.errors import QuantizationError
from mode_core.quantization.grids import Codes, dropped
from mode_core.quantization.quantizers import DATA_FREE, QUANTIZERS, quantizer_kind
from mode_core.quantization.widths import DROPPED, group_length


def quantize_data_free(weights: Tensor, bits: int, group_size: int, symmetric: bool, method: str = DATA_FREE) -> Codes:
    """A stack `[n, out, in]` → codes on the CPU, from the weights alone; width 0 keeps nothing.

    Raises:
        QuantizationError: a quantizer that looks at samples, and so needs the model in memory.
    """
    if bits == DROPPED:
        return dropped(tuple(weights.shape), group_length(weights.shape[-1], group_size))
    kind = quantizer_kind(method)
    if kind.needs_samples:
        raise QuantizationError(
            f"The quantizer {method!r} looks at samples and needs the whole model in memory; choose one of: "
            f"{', '.join(name for name, other in QUANTIZERS.items() if not other.needs_samples)}."
        )
    return on_cpu(kind.function(weights, bits, group_size, symmetric))


def on_cpu(codes: Codes) -> Codes:
    """The same codes on the CPU, where packed codes are kept."""
    zeros = None if codes.zeros is None else codes.zeros.cpu()
    return replace(codes, codes=codes.codes.cpu(), scales=codes.scales.cpu(), zeros=zeros)
