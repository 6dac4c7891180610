"""Grids, packed codes, byte counts, and putting quantized experts into a model and taking them out again."""

from mode_core.quantization.apply import METHODS, QuantizationError, QuantizedModel, quantize_experts
from mode_core.quantization.grids import GROUP_SIZE, WIDTHS, Codes, dequantize, fake_quantize, quantize
from mode_core.quantization.guard import exclusive
from mode_core.quantization.sizes import ModelBytes, expert_bytes, model_bytes, original_expert_bytes

__all__ = [
    "GROUP_SIZE",
    "METHODS",
    "WIDTHS",
    "Codes",
    "ModelBytes",
    "QuantizationError",
    "QuantizedModel",
    "dequantize",
    "exclusive",
    "expert_bytes",
    "fake_quantize",
    "model_bytes",
    "original_expert_bytes",
    "quantize",
    "quantize_experts",
]
