"""Numbers that the MODE paper reports (arXiv 2606.17118): the paper's, not measured here."""

from __future__ import annotations

import pandas as pd

SOURCE = "https://arxiv.org/abs/2606.17118"
MODEL = "Qwen3-VL-30B-A3B"
ORIGINAL = ("BF16, not quantized", 72.65)
AVERAGES = (  # method, mean accuracy over ten benchmarks with experts at 3 bits on average, 16-bit activations
    ("GPTQ", 64.43),
    ("MBQ", 65.68),
    ("MC-MoE (Mixture Compressor)", 67.28),
    ("VEQ-ME", 68.69),
    ("MODE", 69.89),
)
ABOUT = (
    f"Mean accuracy over ten benchmarks of {MODEL} with 3-bit experts (W3A16), as the paper reports it; read at second "
    "hand, and measured by its authors with another model, other samples and other tasks than what is measured here. "
    "The paper also states an average loss of at most 2.9 % at W3A16. Its calibration: ShareGPT4V captions on COCO "
    "pictures, 512 samples for frequencies and 128 for sensitivity."
)


def frame() -> pd.DataFrame:
    """Rows of the paper's table: method, accuracy in %, and points lost against the original."""
    rows = [ORIGINAL, *AVERAGES]
    return pd.DataFrame(
        [(name, value, round(value - ORIGINAL[1], 2)) for name, value in rows],
        columns=["method", "accuracy, %", "points against the original"],
    )
