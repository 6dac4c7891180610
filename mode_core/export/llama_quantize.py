"""A command for llama.cpp's `llama-quantize` that gives every expert tensor of a GGUF file the type of its bits.

A GGUF file holds all experts of a layer's projection in one tensor, `blk.<layer>.ffn_<gate|up|down>_exps.weight`, which
has one type. `--tensor-type pattern=type` matches by regular expression anywhere in the name, the first match wins; the
patterns here are anchored, so each matches one tensor. Types hold more than their nominal bits (scales included).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mode_core.export.folder import ExportError
from mode_core.export.ggml_types import TYPES, GgmlType
from mode_core.export.gguf_names import expert_tensor
from mode_core.export.request import Request
from mode_core.quantization.widths import UNTOUCHED

BY_WIDTH = {2: "Q2_K", 3: "Q3_K", 4: "Q4_K", 5: "Q5_K", 6: "Q6_K", 8: "Q8_0", UNTOUCHED: "BF16"}
WIDTHS = tuple(BY_WIDTH)
SCRIPT, RULES = "llama-quantize.sh", "tensor-types.txt"
START = 'exec llama-quantize ${IMATRIX:+--imatrix} ${IMATRIX:+"$IMATRIX"} \\'


@dataclass(frozen=True)
class Rule:
    """One tensor of the file: its name, its type, and the input channels of its matrices (None: not known)."""

    tensor: str
    kind: GgmlType
    channels: int | None

    @property
    def type(self) -> str:
        """The type as llama-quantize spells it."""
        return self.kind.name.lower()

    @property
    def text(self) -> str:
        """What `--tensor-type` takes."""
        return f"^{re.escape(self.tensor)}$={self.type}"

    @property
    def taken(self) -> str:
        """The type that llama-quantize really writes: another where rows are no whole blocks, without a word."""
        fits = self.channels is None or self.channels % self.kind.block == 0
        return self.type if fits else self.kind.instead.lower()


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
            channels = None if shape is None else shape.intermediate if projection == "down" else shape.hidden
            width = int(first[-1] if projection == "down" else first[0])
            yield Rule(expert_tensor(layer, projection), TYPES[BY_WIDTH[width]], channels)


def write_gguf(request: Request, folder: Path) -> tuple[str, ...]:
    """`llama-quantize.sh` (run it with the bfloat16 file and the file to write) and the rules, one on a line.

    With bf16, f16 or f32 as the type of everything else llama-quantize would leave all rules out; so that type is the
    last rule instead, which the others come before.
    """
    made = list(rules(request))
    head = [
        "#!/bin/sh",
        "# sh llama-quantize.sh model-bf16.gguf model-mode.gguf [type of everything else, default q8_0]",
        "# make the first file with llama.cpp: python convert_hf_to_gguf.py <model> --outtype bf16 --outfile …",
        "# with an importance matrix: IMATRIX=imatrix.gguf sh llama-quantize.sh …",
        "# check the second: python -m mode_core export --verify model-mode.gguf --out <this folder>",
    ]
    other: dict[tuple[str, int, str], int] = {}
    for rule in made:
        if rule.taken != rule.type:
            key = rule.type, rule.channels, rule.taken
            other[key] = other.get(key, 0) + 1
    notes = [
        f"Rows of {channels} weights are no whole blocks of {kind}: llama-quantize writes {taken} there without a word "
        f"({count} tensors)."
        for (kind, channels, taken), count in other.items()
    ]
    head += [f"# {note}" for note in notes]
    options = [f"  --tensor-type {shlex.quote(rule.text)} \\" for rule in made]
    last = '  ${3:+--tensor-type} ${3:+".*=$3"} "$1" "$2" q8_0'
    (folder / SCRIPT).write_text("\n".join([*head, START, *options, last]) + "\n", encoding="utf-8")
    (folder / RULES).write_text("".join(f"{rule.text}\n" for rule in made), encoding="utf-8")
    return tuple(notes)
