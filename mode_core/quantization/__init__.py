"""Grids, packed codes, byte counts, and putting quantized experts into a model and taking them out again.

What counts bytes needs no torch, and a person who drags a budget should not wait for it: names that do are fetched on
first use.
"""

from typing import TYPE_CHECKING

from mode_core.errors import QuantizationError, QuantizerMissing
from mode_core.on_first_use import on_first_use
from mode_core.quantization.quantizers import QUANTIZERS
from mode_core.quantization.settings import GptqSettings, Quantizer
from mode_core.quantization.sizes import expert_bytes, original_expert_bytes
from mode_core.quantization.widths import GROUP_SIZE, WIDTHS

if TYPE_CHECKING:
    from mode_core.quantization.apply import load_packed, quantize_experts
    from mode_core.quantization.grids import Codes, dequantize, fake_quantize, quantize
    from mode_core.quantization.model_lock import exclusive
    from mode_core.quantization.quantized_model import QuantizedModel
    from mode_core.quantization.rest import rest_bytes

__getattr__ = on_first_use(__name__, __file__)
