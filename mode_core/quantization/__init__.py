"""Grids, packed codes, byte counts, and putting quantized experts into a model and taking them out again.

What counts bytes needs no torch, and a person who drags a budget should not wait for it: names that do are fetched on
first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from mode_core.errors import QuantizationError, QuantizerMissing
from mode_core.quantization.quantizers import QUANTIZERS
from mode_core.quantization.settings import GptqSettings, Quantizer
from mode_core.quantization.sizes import expert_bytes, original_expert_bytes, packed_bytes
from mode_core.quantization.widths import GROUP_SIZE, WIDTHS

if TYPE_CHECKING:
    from mode_core.quantization.apply import quantize_experts
    from mode_core.quantization.grids import Codes, dequantize, fake_quantize, quantize
    from mode_core.quantization.guard import exclusive
    from mode_core.quantization.quantized_model import QuantizedModel
    from mode_core.quantization.rest import rest_bytes

_WITH_TORCH = {"QuantizedModel": "quantized_model", "exclusive": "guard", "quantize_experts": "apply"}
_WITH_TORCH |= {"rest_bytes": "rest"} | dict.fromkeys(("Codes", "dequantize", "fake_quantize", "quantize"), "grids")
__all__ = [
    "GROUP_SIZE", "QUANTIZERS", "WIDTHS", "Codes", "GptqSettings", "QuantizationError", "QuantizedModel", "Quantizer",
    "QuantizerMissing", "dequantize", "exclusive", "expert_bytes", "fake_quantize", "original_expert_bytes",
    "packed_bytes", "quantize", "quantize_experts", "rest_bytes",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _WITH_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WITH_TORCH[name]}"), name)
