"""The grids that a bank's experts are rounded to: searched for once per expert and width, kept as scales.

Searching for the scales is by far the dearest part of sensitivity, so it is done once, never per sample or modality,
and a run that is continued finds them in its folder. Scales are 1/64 byte per weight and width (group size 128); the
rounded weights themselves would be as large as the model, once for every width.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mode_core.calibration.settings import CalibrationSettings
from mode_core.files import atomic_write
from mode_core.models import PROJECTIONS, ExpertBank
from mode_core.models.offloading import in_memory
from mode_core.quantization.grids import dequantize, quantize

SLAB = 1 << 24  # weights that are searched together: memory beside the model is about twelve times as many bytes
SIDES = ("up", "down")


@dataclass(frozen=True)
class BankGrids:
    """Scales and zero points of one bank at every width, with what rounding does to the weights themselves.

    `weight_norm` `[E, 3]` and `weight_error` `[E, B, 3]` (squared), float64, are in the order gate, up, down; zero for
    a matrix that the family lacks. The scales are in memory, or are read from `file` expert by expert.
    """

    weight_norm: Tensor
    weight_error: Tensor
    tensors: dict[str, Tensor] | None = None
    file: Path | None = None

    def grid(self, side: str, bits: int, expert: int) -> tuple[Tensor, Tensor | None]:
        """Scales `[out, groups]` and zero points (None where symmetric) of one expert, on the CPU or its device."""
        scales = self._read(f"{side}|{bits}|scales", expert)
        return scales, self._read(f"{side}|{bits}|zeros", expert)

    def _read(self, key: str, expert: int) -> Tensor | None:
        if self.tensors is not None:
            return self.tensors[key][expert] if key in self.tensors else None
        with safe_open(str(self.file), framework="pt") as opened:
            return opened.get_slice(key)[expert] if key in opened.keys() else None  # noqa: SIM118


def find_grids(
    bank: ExpertBank,
    settings: CalibrationSettings,
    revision: str,
    folder: Path | None = None,
    watch: Callable[[], None] = lambda: None,
) -> BankGrids:
    """The grids of a bank: those kept in `folder` where they are of these weights and settings, else searched for.

    With a folder they are kept there; without, in memory. `watch` is called between slabs of experts and may raise, to
    stop. Memory: the bank's weights, `SLAB` weights six times over, and the scales.
    """
    label = {
        "bank": bank.name,
        "model": revision,
        "bits": list(settings.bits),
        "group_size": settings.group_size,
        "symmetric": settings.symmetric,
    }
    place = None if folder is None else folder / f"{bank.name}.safetensors"
    if place is not None and (kept := _kept(place, label)) is not None:
        return kept
    tensors = _search(bank, settings, watch)
    norm, error = tensors.pop("weight_norm"), tensors.pop("weight_error")
    if place is None:
        return BankGrids(norm, error, tensors)
    whole = tensors | {"weight_norm": norm, "weight_error": error}
    content = save({k: v.cpu().contiguous() for k, v in whole.items()}, metadata={"grids": json.dumps(label)})
    atomic_write(place, content)
    return BankGrids(norm, error, file=place)


def _kept(place: Path, label: dict[str, Any]) -> BankGrids | None:
    """What an earlier process left, where it is whole and of the same weights and settings."""
    if not place.is_file():
        return None
    try:
        with safe_open(str(place), framework="pt") as opened:
            if json.loads((opened.metadata() or {}).get("grids", "null")) != label:
                return None
            return BankGrids(opened.get_tensor("weight_norm"), opened.get_tensor("weight_error"), file=place)
    except (SafetensorError, ValueError, RecursionError):  # cut off or not ours: searched for again, and replaced
        return None


def _search(bank: ExpertBank, settings: CalibrationSettings, watch: Callable[[], None]) -> dict[str, Tensor]:
    """Scales of all experts at all widths, `[E, out, groups]` by side and width, and the weights' norms and errors."""
    found: dict[str, list[Tensor]] = {}
    norm = torch.zeros(bank.experts, 3, dtype=torch.float64)
    error = torch.zeros(bank.experts, len(settings.bits), 3, dtype=torch.float64)
    with in_memory(bank.module):
        for side in SIDES:
            weights = bank.fused(side)
            step = max(1, SLAB // weights[0].numel())
            for first in range(0, bank.experts, step):
                slab = slice(first, first + step)
                original = weights[slab].float()
                _add_squares(bank, side, original, norm[slab])
                for column, bits in enumerate(settings.bits):
                    codes = quantize(weights[slab], bits, settings.group_size, settings.symmetric)
                    found.setdefault(f"{side}|{bits}|scales", []).append(codes.scales)
                    if codes.zeros is not None:
                        found.setdefault(f"{side}|{bits}|zeros", []).append(codes.zeros)
                    _add_squares(bank, side, dequantize(codes).sub_(original), error[slab, column])
                    watch()
    return {key: torch.cat(parts) for key, parts in found.items()} | {
        "weight_norm": norm.sqrt_(),
        "weight_error": error,
    }


def _add_squares(bank: ExpertBank, side: str, values: Tensor, sums: Tensor) -> None:
    """Σ v² of every expert's matrices `[n, rows, in]` of one side → their columns of `sums` `[n, 3]`."""
    for projection in bank.projections:
        if (projection == "down") == (side == "down"):
            part = values[:, bank.rows(projection)]
            norm = torch.linalg.vector_norm(part, dim=(1, 2), dtype=torch.float64)
            sums[:, PROJECTIONS.index(projection)] = norm.square().cpu()
