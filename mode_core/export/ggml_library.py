"""ggml's own quantizers, from the library that the optional package xllamacpp carries.

Imported only when a type is asked for that our codes cannot be written as, or a finished imatrix is tried.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import numpy as np

from mode_core.export.folder import ExportError
from mode_core.export.ggml_types import GgmlType

TRIED = "2026.10.11549"  # llama.cpp b11549


@cache
def _library() -> ctypes.CDLL:
    try:
        import xllamacpp
    except ImportError as missing:  # the package, or a library of the system that it needs
        raise ExportError(
            f"K and IQ types are rounded by ggml itself, which the package xllamacpp carries ({missing}); install it: "
            f"pip install xllamacpp=={TRIED}. Without it choose among Q2_0, Q4_0, Q5_0 and Q8_0 (types 'codes')."
        ) from None
    (shared,) = Path(xllamacpp.__file__).parent.glob("xllamacpp.*.so")
    library = ctypes.CDLL(str(shared))
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p,
    ]  # fmt: skip
    return library


def ggml_quantize(weights: np.ndarray, kind: GgmlType, importance: np.ndarray | None = None) -> np.ndarray:
    """Weights `[rows, columns]` → uint8 `[rows, row bytes]`, as llama-quantize would with `importance` `[columns]`
    (mean of w·x² of every input channel).

    Raises:
        ExportError: xllamacpp is not installed; a type that needs an importance matrix without one.
    """
    if kind.needs_imatrix and importance is None:
        raise ExportError(f"{kind.name} is rounded with an importance matrix alone; give one (imatrix).")
    source = np.ascontiguousarray(weights, np.float32)
    rows, columns = source.shape
    made = np.empty((rows, kind.row_bytes(columns)), np.uint8)
    row = None if importance is None else np.ascontiguousarray(importance, np.float32)
    if row is not None and row.shape != (columns,):
        raise ExportError(f"An importance row of {row.shape} does not fit {columns} input channels.")
    pointer = None if row is None else row.ctypes.data
    written = _library().ggml_quantize_chunk(kind.id, source.ctypes.data, made.ctypes.data, 0, rows, columns, pointer)
    if written != made.nbytes:
        raise ExportError(f"ggml wrote {written} bytes of {kind.name} where {made.nbytes} were expected.")
    return made
