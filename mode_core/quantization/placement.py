"""How quantized weights stand in the model, and how the original comes back: as values, or as packed codes.

`Values` writes what the codes stand for into the model's own weights: it runs as fast as the original and takes as much
memory. `Packed` empties the weights and lets the modules compute from codes: it takes the memory of the codes, and
unpacks an expert each time that it is used. Both put the original back bit for bit.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mode_core.errors import QuantizationError
from mode_core.quantization.packed_forward import PackedBank, PackedLinear
from mode_core.quantization.packing import PackedMatrix
from mode_core.quantization.widths import DROPPED

if TYPE_CHECKING:
    from mode_core.models import ExpertBank, LoadedModel

STORAGES = ("values", "packed")
ORIGINALS = ("memory", "disk")
Key = tuple[str, int, str]  # bank name, expert, projection


class Placement(Protocol):
    """The switch between the quantized and the original weights."""

    def put(self) -> None: ...
    def restore(self) -> None: ...
    def untouched(self, bank: ExpertBank, projection: str, expert: int) -> Tensor: ...


def silence_dropped(loaded: LoadedModel, packed: dict[Key, PackedMatrix]) -> list[tuple[Tensor, Tensor]]:
    """Zero what experts of 0 bits would still add by the bias of their last matrix; (view, what it held) of each."""
    kept = []
    for (name, expert, projection), matrix in packed.items():
        if projection == "down" and matrix.bits == DROPPED:
            view = loaded.banks[name].bias("down", expert)
            if view is not None:
                kept.append((view, view.clone()))
                view.zero_()
    return kept


class Values:
    """Quantized values in the model's own weights; the originals of what was touched wait on the CPU meanwhile."""

    def __init__(self, loaded: LoadedModel, packed: dict[Key, PackedMatrix], linears: dict[str, PackedMatrix]):
        self.loaded, self.packed, self.linears = loaded, packed, linears
        self._originals: list[tuple[Tensor, Tensor]] = []  # (view into the model, copy of what it held)

    def put(self) -> None:
        """Write the values that the codes stand for."""
        for (bank, expert, projection), matrix in self.packed.items():
            self._write(self.loaded.banks[bank].matrix(projection, expert), matrix)
        for name, matrix in self.linears.items():
            self._write(self.loaded.model.get_submodule(name).weight.detach(), matrix)
        self._originals += silence_dropped(self.loaded, self.packed)

    def _write(self, view: Tensor, matrix: PackedMatrix) -> None:
        self._originals.append((view, view.cpu() if view.device.type != "cpu" else view.clone()))
        view.copy_(matrix.dequantize(view.dtype))

    def restore(self) -> None:
        """Write the originals back."""
        for view, original in self._originals:
            view.copy_(original)
        self._originals.clear()

    def untouched(self, bank: ExpertBank, projection: str, expert: int) -> Tensor:
        """A matrix that was not quantized, `[out, in]`."""
        return bank.matrix(projection, expert)


class Packed:
    """Codes instead of weights. The originals wait in memory, or in a folder of their own on disk until `restore`."""

    def __init__(
        self, loaded: LoadedModel, packed: dict[Key, PackedMatrix], linears: dict[str, PackedMatrix], originals: str
    ):
        self.loaded, self.packed, self.linears, self.originals = loaded, packed, linears, originals
        self._banks: dict[str, PackedBank] = {}
        self._emptied: list[tuple[nn.Parameter, Tensor | Path, torch.device]] = []
        self._forwards: list[nn.Module] = []
        self._singles: list[PackedMatrix] = []
        self._folder: tempfile.TemporaryDirectory | None = None
        self._biases: list[tuple[Tensor, Tensor]] = []  # (view into the model, copy of what it held)

    def put(self) -> None:
        """Replace the weights of every bank and linear layer that has codes."""
        if self.originals == "disk":
            self._folder = tempfile.TemporaryDirectory(prefix="mode-originals-")
        touched = {name for name, _, _ in self.packed}
        for name, bank in self.loaded.banks.items():
            if name in touched:
                self._put_bank(bank)
        for name, matrix in self.linears.items():
            self._put_linear(self.loaded.model.get_submodule(name), matrix)
        self._biases = silence_dropped(self.loaded, self.packed)

    def _put_bank(self, bank: ExpertBank) -> None:
        check_interface(bank)
        if bank.reached == "list":
            self._put_list(bank)
            return
        stored = {}
        for projection in bank.projections:
            for expert in range(bank.experts):
                codes = self.packed.get((bank.name, expert, projection))
                whole = bank.matrix(projection, expert)
                stored[expert, projection] = whole.clone() if codes is None else codes.to(bank.device)
        places = {bank.matrix(projection, 0).untyped_storage().data_ptr() for projection in bank.projections}
        weights = [p for p in bank.module.parameters() if p.untyped_storage().data_ptr() in places]
        self._banks[bank.name] = PackedBank(bank, stored)
        self._replace(bank.module, self._banks[bank.name].forward, weights)

    def _put_list(self, bank: ExpertBank) -> None:
        """Experts that are modules of their own: each of their linear layers computes from its codes."""
        linears = {module.weight.data_ptr(): module for module in bank.module.modules() if type(module) is nn.Linear}
        for (name, expert, projection), matrix in self.packed.items():
            if name == bank.name:
                self._put_linear(linears[bank.matrix(projection, expert).data_ptr()], matrix)

    def _put_linear(self, linear: nn.Linear, matrix: PackedMatrix) -> None:
        forward = PackedLinear(linear, matrix.to(linear.weight.device))
        self._singles.append(forward.stored)
        self._replace(linear, forward.forward, [linear.weight])

    def _replace(self, module: nn.Module, forward: object, weights: list[nn.Parameter]) -> None:
        for weight in weights:
            kept: Tensor | Path = weight.data
            if self._folder is not None:
                kept = Path(self._folder.name) / f"{len(self._emptied)}.safetensors"
                save_file({"weight": weight.data.contiguous()}, kept)
            self._emptied.append((weight, kept, weight.device))
            weight.data = torch.empty(0, dtype=weight.dtype, device=weight.device)
        module.forward = forward
        self._forwards.append(module)

    def restore(self) -> None:
        """Give every module its weights and its forward back."""
        for module in self._forwards:
            del module.forward
        for weight, kept, device in self._emptied:
            weight.data = load_file(kept, device=str(device))["weight"] if isinstance(kept, Path) else kept
        for view, original in self._biases:
            view.copy_(original)
        self._biases.clear()
        self._forwards.clear()
        self._emptied.clear()
        self._banks.clear()
        self._singles.clear()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def untouched(self, bank: ExpertBank, projection: str, expert: int) -> Tensor:
        """A matrix that was not quantized, `[out, in]`."""
        if bank.name in self._banks:
            return self._banks[bank.name].matrix(projection, expert)
        return bank.matrix(projection, expert)

    @property
    def live_bytes(self) -> int:
        """Bytes that the model's parameters and the codes instead of them take in memory now, each counted once."""
        left = sum(p.numel() * p.element_size() for p in self.loaded.model.parameters())
        stored = [matrix for bank in self._banks.values() for matrix in bank.stored.values()]
        return left + sum(matrix.nbytes for matrix in (*stored, *self._singles))


def check_interface(bank: ExpertBank) -> None:
    """Refuse a bank that is not called in transformers' uniform way, or whose forward something else replaced.

    Raises:
        QuantizationError: with what to do instead.
    """
    uniform = bank.reached in ("interface", "call") and (hasattr(bank.module, "_apply_gate") or not bank.has_gate)
    if not uniform and bank.reached != "list":
        raise QuantizationError(
            f"{bank.name} ({type(bank.module).__name__}) is not called with states, expert ids and weights, so its "
            "experts cannot compute from packed codes; use storage 'values'."
        )
    if "forward" in vars(bank.module):
        raise QuantizationError(
            f"The forward of {bank.name} is replaced already (offloading does that); load the model whole, or use "
            "storage 'values'."
        )
