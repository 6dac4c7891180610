"""The tensor types of ggml: their blocks, their real bits a weight, and which of our codes each holds as it is.

A type cuts a row into blocks of `block` weights that take `bytes` bytes, scales included, so `bits` is what a weight
really takes. The plain types repeat a float16 scale every block: codes whose group is whole blocks fit into them
without being rounded again. K and IQ types have scales of their own kind; ggml's own function rounds weights to them.
"""

from __future__ import annotations

from dataclasses import dataclass

from mode_core.export.folder import ExportError

PLAIN = ("F32", "F16", "BF16")


@dataclass(frozen=True)
class GgmlType:
    """A tensor type. `id` is its number in a GGUF file; `levels` the integers `(lowest, highest)` that a plain block
    multiplies with its scale (None: a type that our codes cannot be written as); `offset`: a block also has a minimum;
    `nominal` the width that speaks for it; `instead` what llama-quantize takes where a row is no whole blocks.
    """

    name: str
    id: int
    block: int
    bytes: int
    nominal: int
    levels: tuple[int, int] | None = None
    offset: bool = False
    needs_imatrix: bool = False
    instead: str = ""

    @property
    def bits(self) -> float:
        """Bits a weight, scales included."""
        return self.bytes * 8 / self.block

    def row_bytes(self, columns: int) -> int:
        """Bytes of one row of `columns` weights, which must be whole blocks."""
        return columns // self.block * self.bytes


TYPES: dict[str, GgmlType] = {
    kind.name: kind
    for kind in (
        GgmlType("F32", 0, 1, 4, 16),
        GgmlType("F16", 1, 1, 2, 16),
        GgmlType("BF16", 30, 1, 2, 16),
        GgmlType("IQ2_XXS", 16, 256, 66, 2, needs_imatrix=True, instead="IQ4_NL"),
        GgmlType("Q2_0", 42, 64, 18, 2, levels=(-2, 1), instead="Q4_0"),  # its scale is negated: see ggml_blocks
        GgmlType("IQ2_XS", 17, 256, 74, 2, needs_imatrix=True, instead="IQ4_NL"),
        GgmlType("Q2_K", 10, 256, 84, 2, instead="Q4_0"),
        GgmlType("IQ3_XXS", 18, 256, 98, 3, instead="IQ4_NL"),
        GgmlType("Q3_K", 11, 256, 110, 3, instead="Q4_0"),
        GgmlType("IQ3_S", 21, 256, 110, 3, instead="IQ4_NL"),
        GgmlType("IQ4_XS", 23, 256, 136, 4, instead="IQ4_NL"),
        GgmlType("Q4_0", 2, 32, 18, 4, levels=(-8, 7)),
        GgmlType("IQ4_NL", 20, 32, 18, 4),
        GgmlType("Q4_K", 12, 256, 144, 4, instead="Q5_0"),
        GgmlType("Q4_1", 3, 32, 20, 4, levels=(0, 15), offset=True),
        GgmlType("Q5_0", 6, 32, 22, 5, levels=(-16, 15)),
        GgmlType("Q5_K", 13, 256, 176, 5, instead="Q5_1"),
        GgmlType("Q5_1", 7, 32, 24, 5, levels=(0, 31), offset=True),
        GgmlType("Q6_K", 14, 256, 210, 6, instead="Q8_0"),
        GgmlType("Q8_0", 8, 32, 34, 8, levels=(-128, 127)),
    )
}
QUANTIZED = tuple(name for name in TYPES if name not in PLAIN)
FILE_TYPES = {"torch.float32": "F32", "torch.float16": "F16", "torch.bfloat16": "BF16"}


def type_named(name: str) -> GgmlType:
    """The type of that name, in whatever case.

    Raises:
        ExportError: there is none, with those that there are.
    """
    if (found := TYPES.get(name.upper())) is None:
        raise ExportError(f"There is no ggml type {name!r} here; choose among: {', '.join(TYPES)}.")
    return found


def level_range(bits: int, symmetric: bool, fractions: bool = False) -> tuple[int, int] | None:
    """Lowest and highest integer that codes of `bits` bits multiply with their scale; None where that is no integer
    (`fractions`: zero points as hqq keeps them)."""
    if fractions:
        return None
    if bits == 1:
        return -1, 1
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if symmetric else (1 - (1 << bits), (1 << bits) - 1)


def holds(kind: GgmlType, bits: int, symmetric: bool, columns: int, group: int, fractions: bool = False) -> bool:
    """Whether the codes of rows of `columns` weights in groups of `group` can be written as this type's blocks.

    A type without a minimum holds them exactly; one with (Q4_1, Q5_1) rounds scale × zero point to float16, and is
    meant for zero points alone.
    """
    if kind.levels is None or columns % kind.block or (group < columns and group % kind.block):
        return False
    if kind.offset:
        return not symmetric and bits > 1 and (1 << bits) - 1 <= kind.levels[1]
    span = level_range(bits, symmetric or bits == 1, fractions)
    return span is not None and kind.levels[0] <= span[0] and span[1] <= kind.levels[1]


def container(bits: int, symmetric: bool, columns: int, group: int, fractions: bool = False) -> GgmlType | None:
    """The smallest type that holds such codes; None where there is none."""
    fitting = [kind for kind in TYPES.values() if holds(kind, bits, symmetric, columns, group, fractions)]
    return min(fitting, key=lambda kind: kind.bytes / kind.block, default=None)
