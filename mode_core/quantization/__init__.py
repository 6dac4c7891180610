"""Grids, packed codes, byte counts, and putting quantized experts into a model and taking them out again."""

from mode_core.quantization.grids import GROUP_SIZE, WIDTHS, Codes, dequantize, fake_quantize, quantize
from mode_core.quantization.sizes import expert_bytes, original_expert_bytes

__all__ = [
    "GROUP_SIZE",
    "WIDTHS",
    "Codes",
    "dequantize",
    "expert_bytes",
    "fake_quantize",
    "original_expert_bytes",
    "quantize",
]
