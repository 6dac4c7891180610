"""Grids, packed codes, byte counts, and putting quantized experts into a model and taking them out again.

Names are fetched on first use: what counts bytes needs no torch, and a person who drags a budget should not wait
for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mode_core.quantization.apply import quantize_experts
    from mode_core.quantization.errors import QuantizationError, QuantizerMissing
    from mode_core.quantization.grids import Codes, dequantize, fake_quantize, quantize
    from mode_core.quantization.guard import exclusive
    from mode_core.quantization.quantized_model import QuantizedModel
    from mode_core.quantization.quantizers import QUANTIZERS
    from mode_core.quantization.rest import rest_bytes
    from mode_core.quantization.settings import GptqSettings, Quantizer
    from mode_core.quantization.sizes import expert_bytes, original_expert_bytes, packed_bytes
    from mode_core.quantization.widths import GROUP_SIZE, WIDTHS

_HOMES = {
    "GptqSettings": "settings",
    "QUANTIZERS": "quantizers",
    "QuantizationError": "errors",
    "QuantizedModel": "quantized_model",
    "Quantizer": "settings",
    "QuantizerMissing": "errors",
    "quantize_experts": "apply",
    "Codes": "grids",
    "dequantize": "grids",
    "fake_quantize": "grids",
    "quantize": "grids",
    "exclusive": "guard",
    "rest_bytes": "rest",
    "expert_bytes": "sizes",
    "packed_bytes": "sizes",
    "original_expert_bytes": "sizes",
    "GROUP_SIZE": "widths",
    "WIDTHS": "widths",
}
__all__ = [
    "GROUP_SIZE",
    "QUANTIZERS",
    "WIDTHS",
    "Codes",
    "GptqSettings",
    "QuantizationError",
    "QuantizedModel",
    "Quantizer",
    "QuantizerMissing",
    "dequantize",
    "exclusive",
    "expert_bytes",
    "fake_quantize",
    "original_expert_bytes",
    "packed_bytes",
    "quantize",
    "quantize_experts",
    "rest_bytes",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
