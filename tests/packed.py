"""Readers of packed checkpoints that share no code with their writers: Python's own integers, one matrix at a time."""

from __future__ import annotations

import numpy as np


def read_bits(words: np.ndarray, bits: int) -> np.ndarray:
    """int32 words `[n]` → values, as one little-endian number in Python's own integers."""
    number = int.from_bytes(words.astype("<i4").tobytes(), "little")
    return np.array([(number >> (bits * place)) & ((1 << bits) - 1) for place in range(32 * len(words) // bits)])


def read_matrix(tensors: dict, module: str, bits: int, less_one: bool) -> np.ndarray:
    """The values `[out, in]` that qweight, qzeros and scales of one module stand for."""
    words, zeros, scales = (tensors[f"{module}.{part}"].numpy() for part in ("qweight", "qzeros", "scales"))
    codes = np.stack([read_bits(column, bits) for column in words.T])
    points = np.stack([read_bits(row, bits) for row in zeros]) + (1 if less_one else 0)
    groups = np.arange(codes.shape[1]) * len(scales) // codes.shape[1]
    return (codes - points.T[:, groups]) * scales.astype(np.float32).T[:, groups]
