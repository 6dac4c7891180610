"""The JSON that the paper's released quantizer reads with `--expert_bits_json`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from typing_extensions import TypedDict

from mode_core.export.folder import ExportError
from mode_core.export.request import Request
from mode_core.json_files import Digits, Width, checked, read_json

FILE = "expert_bits.json"


class _Record(TypedDict):
    """Layer → expert → bits; what else the file says is not read."""

    expert_bits: dict[Digits, dict[str, Width]]


def write_expert_bits(request: Request, folder: Path) -> None:
    """`{"metadata": …, "expert_bits": {"<layer>": {"<expert>": bits}}}`, layers and experts counted from 0.

    Raises:
        ExportError: two banks in one layer: the format has no place for them.
    """
    allocation, layers = request.allocation, {}
    for bank, bits in allocation.bits.items():
        widths, layer = np.asarray(bits), str(request.layer(bank))
        if layer in layers:
            raise ExportError(f"Layer {layer} has more than one expert bank ({bank}); this format holds only one.")
        layers[layer] = {str(expert): int(width) for expert, width in enumerate(widths)}
    metadata = {
        "average_bits": allocation.average_bits,
        "candidate_bits": list(allocation.widths),
        "objective": allocation.objective,
        "method": allocation.method,
        "scope": allocation.scope,
        "group_size": request.group_size,
        "symmetric": request.symmetric,
    }
    text = json.dumps({"metadata": metadata, "expert_bits": layers}, indent=1)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")


def read_expert_bits(path: str | Path) -> dict[int, np.ndarray]:
    """What `write_expert_bits` (or the released code) wrote: layer → int `[E]`.

    Raises:
        ExportError: not such a file, or experts missing, named with their layer.
    """
    record = checked(read_json(Path(path), ExportError), _Record, path, ExportError)
    return {int(layer): _widths(path, layer, experts) for layer, experts in record["expert_bits"].items()}


def _widths(path: str | Path, layer: str, experts: dict[str, int]) -> np.ndarray:
    if set(experts) != {str(expert) for expert in range(len(experts))}:
        raise ExportError(f"{path}, layer {layer}: experts must be 0 … {len(experts) - 1} without a gap.")
    return np.array([experts[str(expert)] for expert in range(len(experts))], dtype=np.int64)
