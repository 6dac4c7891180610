"""Packed matrices in one safetensors file: `<bank>|<expert>|<projection>|codes`, `|scales`, `|zeros`.

Layers outside the experts stand there as `<module>|codes` and so on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save

from mode_core.files import atomic_write, read_tensors
from mode_core.quantization.packing import PackedMatrix

FORMAT = "mode-packed/1"
Key = tuple[str, int, str]


class PackedFileError(ValueError):
    """A file of packed experts that is missing, cut off, or something else."""


def write_packed(
    path: str | Path,
    packed: Mapping[Key, PackedMatrix],
    settings: Mapping[str, object],
    linears: Mapping[str, PackedMatrix] | None = None,
) -> None:
    """Write packed matrices and the quantizer's settings, atomically. Memory: the file once more."""
    named = {"|".join((bank, str(expert), projection)): matrix for (bank, expert, projection), matrix in packed.items()}
    tensors, matrices = {}, {}
    for name, matrix in (named | dict(linears or {})).items():
        matrices[name] = [matrix.bits, matrix.group_size, *matrix.shape]
        tensors[f"{name}|codes"], tensors[f"{name}|scales"] = matrix.codes, matrix.scales
        if matrix.zeros is not None:
            tensors[f"{name}|zeros"] = matrix.zeros
    header = json.dumps({"format": FORMAT, "settings": dict(settings), "matrices": matrices})
    atomic_write(Path(path), save(tensors, metadata={"packed": header}))


def read_packed(path: str | Path) -> tuple[dict[Key, PackedMatrix], dict[str, object]]:
    """The experts that `write_packed` wrote: (matrices, settings).

    Raises:
        PackedFileError: no such file, not safetensors, or no packed experts in it.
    """
    found, settings = _read(path)
    split = {tuple(name.split("|")): matrix for name, matrix in found.items() if "|" in name}
    return {(bank, int(expert), projection): m for (bank, expert, projection), m in split.items()}, settings


def read_packed_linears(path: str | Path) -> dict[str, PackedMatrix]:
    """The layers outside the experts that `write_packed` wrote, by module name; errors as `read_packed`."""
    return {name: matrix for name, matrix in _read(path)[0].items() if "|" not in name}


def _read(path: str | Path) -> tuple[dict[str, PackedMatrix], dict[str, object]]:
    arrays, metadata = read_tensors(Path(path), PackedFileError)
    header = json.loads(metadata.get("packed", "{}"))
    if header.get("format") != FORMAT:
        raise PackedFileError(f"{path} is a safetensors file, but holds no packed experts ({FORMAT}).")
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    found = {}
    for name, (bits, group_size, rows, columns) in header["matrices"].items():
        codes, scales, zeros = tensors[f"{name}|codes"], tensors[f"{name}|scales"], tensors.get(f"{name}|zeros")
        found[name] = PackedMatrix(codes, scales, zeros, bits, group_size, (rows, columns))
    return found, header["settings"]
