"""llama.cpp's own function behind `llama-quantize`, under that program's options; for an environment that carries it.

    python -m tests.parity.llama_quantize [--imatrix FILE] [--tensor-type PATTERN=TYPE …] IN.gguf OUT.gguf TYPE

No wheel brings the program, but llama-cpp-py-sync brings the library. Options are read as `tools/quantize/quantize.cpp`
reads them (those that our script passes), and given to `llama_model_quantize`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

PLAIN = {"q8_0": 7, "bf16": 32}  # llama_ftype of what no rule names


def quantize(source: str, made: str, kind: str, rules: list[tuple[str, str]], imatrix: str | None) -> int:
    """Exit code of llama.cpp's function."""
    from gguf import GGMLQuantizationType
    from llama_cpp_py_sync._cffi_bindings import get_ffi, get_lib

    from mode_core.export.imatrix import importance_rows, read_imatrix

    ffi, library, kept = get_ffi(), get_lib(), []

    def text(value: str):
        kept.append(ffi.new("char[]", value.encode()))
        return kept[-1]

    library.llama_backend_init()
    params = ffi.new("llama_model_quantize_params *", library.llama_model_quantize_default_params())
    params.ftype, params.nthread = PLAIN[kind], 1
    overrides = ffi.new("struct llama_model_tensor_override[]", len(rules) + 1)
    for place, (pattern, name) in enumerate(rules):
        overrides[place].pattern, overrides[place].type = text(pattern), int(GGMLQuantizationType[name.upper()])
    params.tt_overrides = overrides
    if imatrix:
        rows = importance_rows(read_imatrix(imatrix))
        data = ffi.new("struct llama_model_imatrix_data[]", len(rows) + 1)
        for place, (name, values) in enumerate(rows.items()):
            kept.append(values := np.ascontiguousarray(values, np.float32))
            data[place].name, data[place].size = text(name), values.size
            data[place].data = ffi.cast("float *", values.ctypes.data)
        params.imatrix = data
    return library.llama_model_quantize(source.encode(), made.encode(), params)


def main(words: list[str]) -> int:
    rules, imatrix = [], None
    while words[0].startswith("--"):
        option, value, *words = words
        if option == "--tensor-type":
            rules.append(tuple(value.split("=", 1)))
        elif option == "--imatrix":
            imatrix = value
        else:
            raise SystemExit(f"unknown option {option}")
    source, made, kind = words
    return quantize(str(Path(source)), str(Path(made)), kind, rules, imatrix)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
