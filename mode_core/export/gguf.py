"""A command for llama.cpp's `llama-quantize` that gives every expert tensor of a GGUF file the type of its bits.

A GGUF file holds all experts of a layer's projection in one tensor, `blk.<layer>.ffn_<gate|up|down>_exps.weight`, which
has one type. `--tensor-type pattern=type` matches by regular expression anywhere in the name; the patterns here are
anchored, so each matches one tensor. Types hold more than their nominal bits (scales included).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mode_core.export.folder import ExportError
from mode_core.export.request import Request
from mode_core.quantization.widths import UNTOUCHED

TYPES = {  # width -> type, bits per weight with its scales, channels that share a block (ggml)
    2: ("q2_k", 2.625, 256),
    3: ("q3_k", 3.4375, 256),
    4: ("q4_k", 4.5, 256),
    5: ("q5_k", 5.5, 256),
    6: ("q6_k", 6.5625, 256),
    8: ("q8_0", 8.5, 32),
    UNTOUCHED: ("bf16", 16.0, 1),
}
WIDTHS = tuple(TYPES)
SCRIPT, RULES = "llama-quantize.sh", "tensor-types.txt"


@dataclass(frozen=True)
class Rule:
    """One tensor of the file: its name, the pattern for it, its type, and the input channels of its matrices."""

    tensor: str
    pattern: str
    type: str
    channels: int | None

    @property
    def fits(self) -> bool:
        """False where the channels do not fill whole blocks, so that llama-quantize takes another type."""
        block = next(block for name, _, block in TYPES.values() if name == self.type)
        return self.channels is None or self.channels % block == 0


def rules(request: Request) -> Iterator[Rule]:
    """One rule for every expert tensor.

    Raises:
        ExportError: two banks in one layer.
    """
    seen, shapes = set(), request.shapes()
    for bank, bits in request.allocation.bits.items():
        layer, shape = request.layer(bank), shapes.get(bank)
        if layer in seen:
            raise ExportError(f"Layer {layer} has more than one expert bank ({bank}); a GGUF file holds only one.")
        seen.add(layer)
        first = np.atleast_1d(np.asarray(bits)[0])
        for projection in ("gate", "up", "down") if shape is None or shape.has_gate else ("up", "down"):
            tensor = f"blk.{layer}.ffn_{projection}_exps.weight"
            channels = None if shape is None else shape.intermediate if projection == "down" else shape.hidden
            width = int(first[-1] if projection == "down" else first[0])
            yield Rule(tensor, f"^{re.escape(tensor)}$", TYPES[width][0], channels)


def write_gguf(request: Request, folder: Path) -> None:
    """`llama-quantize.sh` (run it with the bfloat16 file and the file to write) and the rules, one on a line."""
    made = list(rules(request))
    head = [
        "#!/bin/sh",
        "# sh llama-quantize.sh model-bf16.gguf model-mode.gguf [type of everything else, default q8_0]",
        "# make the first file with llama.cpp: python convert_hf_to_gguf.py <model> --outtype bf16 --outfile …",
    ]
    if narrow := sorted({f"{rule.type} on {rule.channels} input channels" for rule in made if not rule.fits}):
        head.append(f"# llama-quantize takes a wider type where blocks are not filled: {', '.join(narrow)}")
    options = [f"  --tensor-type {shlex.quote(f'{rule.pattern}={rule.type}')} \\" for rule in made]
    lines = [*head, "exec llama-quantize \\", *options, '  "$1" "$2" "${3:-q8_0}"']
    (folder / SCRIPT).write_text("\n".join(lines) + "\n", encoding="utf-8")
    text = "\n".join(f"{rule.pattern}={rule.type}" for rule in made)
    (folder / RULES).write_text(text + "\n", encoding="utf-8")
