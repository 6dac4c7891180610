"""Packed experts in one safetensors file: `<bank>|<expert>|<projection>|codes`, `|scales`, `|zeros`."""

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


def write_packed(path: str | Path, packed: Mapping[Key, PackedMatrix], settings: Mapping[str, object]) -> None:
    """Write packed matrices and the quantizer's settings, atomically. Memory: the file once more."""
    tensors, matrices = {}, {}
    for (bank, expert, projection), matrix in packed.items():
        name = f"{bank}|{expert}|{projection}"
        matrices[name] = [matrix.bits, matrix.group_size, *matrix.shape]
        tensors[f"{name}|codes"], tensors[f"{name}|scales"] = matrix.codes, matrix.scales
        if matrix.zeros is not None:
            tensors[f"{name}|zeros"] = matrix.zeros
    header = json.dumps({"format": FORMAT, "settings": dict(settings), "matrices": matrices})
    atomic_write(Path(path), save(tensors, metadata={"packed": header}))


def read_packed(path: str | Path) -> tuple[dict[Key, PackedMatrix], dict[str, object]]:
    """What `write_packed` wrote: (matrices, settings).

    Raises:
        PackedFileError: no such file, not safetensors, or no packed experts in it.
    """
    arrays, metadata = read_tensors(Path(path), PackedFileError)
    header = json.loads(metadata.get("packed", "{}"))
    if header.get("format") != FORMAT:
        raise PackedFileError(f"{path} is a safetensors file, but holds no packed experts ({FORMAT}).")
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    packed = {}
    for name, (bits, group_size, rows, columns) in header["matrices"].items():
        bank, expert, projection = name.split("|")
        codes, scales, zeros = tensors[f"{name}|codes"], tensors[f"{name}|scales"], tensors.get(f"{name}|zeros")
        packed[bank, int(expert), projection] = PackedMatrix(codes, scales, zeros, bits, group_size, (rows, columns))
    return packed, header["settings"]
