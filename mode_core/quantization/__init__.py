"""Grids, packed codes, byte counts, and putting quantized experts into a model and taking them out again.

Names are fetched on first use: what counts bytes needs no torch, and a person who drags a budget should not wait
for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mode_core.errors import QuantizationError
    from mode_core.quantization.apply import quantize_experts
    from mode_core.quantization.grids import Codes, dequantize, fake_quantize, quantize
    from mode_core.quantization.guard import exclusive
    from mode_core.quantization.hessians import GptqSettings
    from mode_core.quantization.hqq import QuantizerMissing
    from mode_core.quantization.methods import METHODS
    from mode_core.quantization.quantized_model import QuantizedModel
    from mode_core.quantization.rest import rest_bytes
    from mode_core.quantization.sizes import ModelBytes, expert_bytes, model_bytes, original_expert_bytes
    from mode_core.quantization.widths import GROUP_SIZE, WIDTHS

_HOMES = {
    "GptqSettings": "hessians",
    "METHODS": "methods",
    "QuantizationError": "methods",
    "QuantizedModel": "quantized_model",
    "QuantizerMissing": "hqq",
    "quantize_experts": "apply",
    "Codes": "grids",
    "dequantize": "grids",
    "fake_quantize": "grids",
    "quantize": "grids",
    "exclusive": "guard",
    "rest_bytes": "rest",
    "ModelBytes": "sizes",
    "expert_bytes": "sizes",
    "model_bytes": "sizes",
    "original_expert_bytes": "sizes",
    "GROUP_SIZE": "widths",
    "WIDTHS": "widths",
}
__all__ = [
    "GROUP_SIZE",
    "METHODS",
    "WIDTHS",
    "Codes",
    "GptqSettings",
    "ModelBytes",
    "QuantizationError",
    "QuantizedModel",
    "QuantizerMissing",
    "dequantize",
    "exclusive",
    "expert_bytes",
    "fake_quantize",
    "model_bytes",
    "original_expert_bytes",
    "quantize",
    "quantize_experts",
    "rest_bytes",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
