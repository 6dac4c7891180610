"""Packed matrices in one safetensors file: `<bank>|<expert>|<projection>|codes`, `|scales`, `|zeros`.

Layers outside the experts stand there as `<module>|codes` and so on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from annotated_types import Interval, Len
from safetensors.torch import save
from typing_extensions import TypedDict

from mode_core.errors import PackedFileError, SettingsError
from mode_core.files import atomic_write, read_tensors
from mode_core.json_files import OPEN, check_format, checked, parse_json, shortened
from mode_core.quantization.packing import PackedMatrix, packed_length
from mode_core.quantization.settings import Quantizer
from mode_core.quantization.widths import DROPPED, PER_CHANNEL, WIDTHS, group_length

FORMAT = "mode-packed/1"
NAMED = re.compile(r"[^|]{1,4096}(\|[0-9]{1,8}\|(gate|up|down))?")
Key = tuple[str, int, str]


class _Header(TypedDict):
    """`matrices` by name: bits, group size, rows, columns."""

    __pydantic_config__ = OPEN
    format: str
    settings: dict[str, Any]
    matrices: dict[str, Annotated[list[Annotated[int, Interval(ge=-1, le=1 << 24)]], Len(4, 4)]]


def write_packed(
    path: str | Path,
    packed: Mapping[Key, PackedMatrix],
    quantizer: Quantizer,
    linears: Mapping[str, PackedMatrix] | None = None,
) -> None:
    """Write packed matrices and what packed them, atomically. Memory: the file once more."""
    named = {"|".join((bank, str(expert), projection)): matrix for (bank, expert, projection), matrix in packed.items()}
    tensors, matrices = {}, {}
    for name, matrix in (named | dict(linears or {})).items():
        matrices[name] = [matrix.bits, matrix.group_size, *matrix.shape]
        tensors[f"{name}|codes"], tensors[f"{name}|scales"] = matrix.codes, matrix.scales
        if matrix.zeros is not None:
            tensors[f"{name}|zeros"] = matrix.zeros
    header = json.dumps({"format": FORMAT, "settings": quantizer.to_dict(), "matrices": matrices})
    atomic_write(Path(path), save(tensors, metadata={"packed": header}))


class PackedFile(NamedTuple):
    """What `write_packed` wrote: experts by (bank, expert, projection), other layers by module name, the quantizer."""

    experts: dict[Key, PackedMatrix]
    linears: dict[str, PackedMatrix]
    quantizer: Quantizer


def read_packed(path: str | Path) -> PackedFile:
    """Read what `write_packed` wrote.

    Raises:
        PackedFileError: no such file, not safetensors, or no packed experts in it.
    """
    path = Path(path)
    arrays, metadata = read_tensors(path, PackedFileError)
    if "packed" not in metadata:
        raise PackedFileError(f"{path} is a safetensors file, but holds no packed experts ({FORMAT}).")
    record = parse_json(metadata["packed"], path, PackedFileError)
    check_format(record, FORMAT, path, PackedFileError, "packed experts")
    header = checked(record, _Header, path, PackedFileError)
    experts, linears = {}, {}
    for name, sizes in header["matrices"].items():
        matrix = _matrix(arrays, name, sizes, path)
        if "|" in name:
            bank, expert, projection = name.split("|")
            experts[bank, int(expert), projection] = matrix
        else:
            linears[name] = matrix
    try:
        return PackedFile(experts, linears, Quantizer.from_dict(header["settings"]))
    except (SettingsError, TypeError) as refused:
        raise PackedFileError(f"{path} is damaged: settings of its quantizer: {refused}") from None


def _matrix(arrays: Mapping[str, np.ndarray], name: str, sizes: Sequence[int], path: Path) -> PackedMatrix:
    """One matrix; the lengths of its arrays must be those that its header asks for."""
    bits, group_size, rows, columns = sizes
    if (
        not NAMED.fullmatch(name)
        or bits not in (DROPPED, *WIDTHS)
        or not (group_size == PER_CHANNEL or group_size > 0)
        or min(rows, columns) < 1
    ):
        raise PackedFileError(
            f"{path} is damaged: {shortened(name)}: no matrix {rows} × {columns} of {bits} bits by {group_size}."
        )
    groups = 0 if bits == DROPPED else -(-columns // group_length(columns, group_size))
    expected = {"codes": (packed_length(rows * columns, bits),), "scales": (rows, groups)}
    parts = [arrays.get(f"{name}|{part}") for part in ("codes", "scales", "zeros")]
    for (part, shape), array, kind in zip(expected.items(), parts, "uf", strict=False):
        if array is None or array.dtype.kind != kind or (array.size if bits == DROPPED else array.shape != shape):
            held = "is missing" if array is None else f"is {array.dtype} of shape {array.shape}"
            raise PackedFileError(f"{path} is damaged: {name}|{part} {held}; expected shape {shape}.")
    zeros = parts[2]
    if zeros is not None and zeros.shape not in ((rows, groups), (packed_length(rows * groups, bits),)):
        raise PackedFileError(f"{path} is damaged: {name}|zeros has shape {zeros.shape}.")
    tensors = (None if part is None else torch.from_numpy(part) for part in parts)
    return PackedMatrix(*tensors, bits, group_size, (rows, columns))
