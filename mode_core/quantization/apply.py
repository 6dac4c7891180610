"""An allocation becomes weights: experts are quantized, packed, put into the model, and taken out again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mode_core.allocation.records import Allocation
from mode_core.jobs import Cancel, ProgressHook, Reporter
from mode_core.quantization.grids import Codes, quantize
from mode_core.quantization.guard import is_quantized, mark_quantized, model_lock
from mode_core.quantization.packed_file import write_packed
from mode_core.quantization.packing import PackedMatrix, pack_matrices
from mode_core.quantization.widths import GROUP_SIZE, PER_CHANNEL, UNTOUCHED, WIDTHS

if TYPE_CHECKING:
    from mode_core.models import ExpertBank, LoadedModel
    from mode_core.samples import Sample

Key = tuple[str, int, str]  # bank name, expert, projection


class QuantizationError(ValueError):
    """An allocation that does not fit the model, or a quantizer that is not there."""


def rtn(weights: Tensor, bits: int, group_size: int, symmetric: bool) -> Codes:
    """Round to nearest with the clip search (paper, experimental setup; see `grids`)."""
    return quantize(weights, bits, group_size, symmetric)


METHODS: dict[str, Callable[[Tensor, int, int, bool], Codes]] = {"rtn": rtn}


def quantize_experts(
    loaded: LoadedModel,
    allocation: Allocation,
    method: str = "rtn",
    group_size: int = GROUP_SIZE,
    symmetric: bool = True,
    samples: Sequence[Sample] | None = None,
    progress: ProgressHook | None = None,
    cancel: Cancel | None = None,
) -> QuantizedModel:
    """Quantize every expert of `loaded` to its width in `allocation`, and put the result into the model.

    The model then computes with the values that the packed codes stand for; use it as a context manager, and
    the original weights are back afterwards, bit for bit:

        with quantize_experts(loaded, allocation) as quantized:
            scores = evaluate(loaded, samples)

    Width 16 leaves an expert untouched. `samples` are for quantizers that look at data (`rtn` does not).
    Until the original is back no other thread gets the model's weights (`guard.exclusive`). A cancel or a
    failure puts the original back before it is raised.

    Memory: on the CPU, the original weights of the experts that are touched, once, and their packed codes;
    beside them about twice one projection of one bank while it is worked on.

    Raises:
        QuantizationError: the allocation's banks, number of experts or widths do not fit the model, both
            named; an unknown method; a model that is quantized already.
        Cancelled: a stop was asked for.
    """
    if method not in METHODS:
        raise QuantizationError(f"There is no quantizer {method!r} here; choose one of: {', '.join(METHODS)}.")
    if group_size != PER_CHANNEL and group_size < 1:
        raise QuantizationError(f"group_size must be a positive number, or -1 (per channel); got {group_size}.")
    plan = _plan(loaded.banks, allocation)
    quantized = QuantizedModel(loaded, allocation, method, group_size, symmetric)
    quantized._fill(plan, Reporter(progress, len(plan), cancel))
    return quantized


class QuantizedModel:
    """A model's experts as packed codes, and the switch between them and the original weights.

    `packed[bank, expert, projection]` is the stored matrix. `with quantized:` puts the quantized weights in
    (again), leaving it puts the original back. Its owner is the thread that put the weights in.
    """

    def __init__(self, loaded: LoadedModel, allocation: Allocation, method: str, group_size: int, symmetric: bool):
        self.loaded, self.allocation = loaded, allocation
        self.method, self.group_size, self.symmetric = method, group_size, symmetric
        self.packed: dict[Key, PackedMatrix] = {}
        self._banks = loaded.banks
        self._originals: dict[tuple[str, str], tuple[Tensor, Tensor]] = {}  # (experts, weights) on the CPU
        self._owner: int | None = None

    @property
    def applied(self) -> bool:
        """True while the model computes with the quantized weights."""
        return self._owner is not None

    @property
    def packed_bytes(self) -> int:
        """Bytes that all experts take: packed codes, scales and zero points, and untouched experts as they are."""
        untouched = sum(
            bank.hidden * bank.intermediate * bank.stacked(projection).element_size()
            for name, bank in self._banks.items()
            for projection in bank.projections
            for expert in range(bank.experts)
            if (name, expert, projection) not in self.packed
        )
        return untouched + sum(matrix.nbytes for matrix in self.packed.values())

    @property
    def original_bytes(self) -> int:
        """Bytes that all experts took before."""
        return sum(
            bank.stacked(projection).numel() * bank.stacked(projection).element_size()
            for bank in self._banks.values()
            for projection in bank.projections
        )

    def matrix(self, bank: str, projection: str, expert: int) -> Tensor:
        """One expert's matrix `[out, in]` as the quantized model has it, in the model's type."""
        view = self._banks[bank].matrix(projection, expert)
        stored = self.packed.get((bank, expert, projection))
        return view.clone() if stored is None else stored.dequantize(view.dtype)

    def apply(self) -> None:
        """Put the quantized weights in, from the packed codes; waits while another thread has the model."""
        if self._owner == threading.get_ident():
            return
        self._take()
        try:
            for name, projection in self._originals:
                self._write(name, projection)
        except BaseException:
            self.restore()
            raise

    def restore(self) -> None:
        """Put the original weights back, bit for bit; does nothing where they are back already."""
        if self._owner is None:
            return
        if self._owner != threading.get_ident():
            raise QuantizationError("Only the thread that put the quantized weights in may take them out again.")
        for (name, projection), (experts, weights) in self._originals.items():
            for expert, matrix in zip(experts.tolist(), weights, strict=True):
                _put(self._banks[name], projection, expert, matrix)
        mark_quantized(self.loaded, False)
        self._owner = None
        model_lock(self.loaded).release()

    def save_packed(self, path: str | Path) -> None:
        """Write the packed codes as one safetensors file, atomically; see `packed_file`."""
        settings = {"method": self.method, "group_size": self.group_size, "symmetric": self.symmetric}
        write_packed(path, self.packed, settings)

    def __enter__(self) -> QuantizedModel:
        self.apply()
        return self

    def __exit__(self, *_: object) -> None:
        self.restore()

    def _take(self) -> None:
        """Get hold of the model's weights."""
        lock = model_lock(self.loaded)
        lock.acquire()
        if is_quantized(self.loaded):
            lock.release()
            raise QuantizationError("The model is quantized already; restore it (leave its 'with' block) first.")
        mark_quantized(self.loaded, True)
        self._owner = threading.get_ident()

    def _fill(self, plan: list[tuple[str, str, np.ndarray]], reporter: Reporter) -> None:
        self._take()
        try:
            for name, projection, widths in plan:
                self._quantize_stack(name, projection, widths)
                reporter.step(f"layer {self._banks[name].layer}: {projection}")
        except BaseException:
            self.restore()
            raise

    def _quantize_stack(self, name: str, projection: str, widths: np.ndarray) -> None:
        """Quantize all experts of one projection of one bank, `widths` int `[E]`, width by width."""
        stack = self._banks[name].stacked(projection)
        touched = torch.from_numpy(np.flatnonzero(widths != UNTOUCHED))
        self._originals[name, projection] = (touched, stack[touched.to(stack.device)].cpu())
        for width in np.unique(widths[widths != UNTOUCHED]):
            experts = np.flatnonzero(widths == width)
            chosen = stack[torch.from_numpy(experts).to(stack.device)]
            codes = METHODS[self.method](chosen, int(width), self.group_size, self.symmetric)
            codes = Codes(
                codes.codes.cpu(),
                codes.scales.cpu(),
                None if codes.zeros is None else codes.zeros.cpu(),
                codes.bits,
                codes.group_size,
                codes.shape,
            )
            for expert, matrix in zip(experts, pack_matrices(codes), strict=True):
                self.packed[name, int(expert), projection] = matrix
        self._write(name, projection)

    def _write(self, name: str, projection: str) -> None:
        """Packed codes of one projection of one bank → values in the model."""
        bank = self._banks[name]
        for expert in self._originals[name, projection][0].tolist():
            values = self.packed[name, expert, projection].dequantize(bank.matrix(projection, expert).dtype)
            _put(bank, projection, expert, values)


def _put(bank: ExpertBank, projection: str, expert: int, values: Tensor) -> None:
    """Write one expert's matrix into the model."""
    with torch.no_grad():
        bank.matrix(projection, expert).copy_(values)


def _plan(banks: dict[str, ExpertBank], allocation: Allocation) -> list[tuple[str, str, np.ndarray]]:
    """(bank, projection, widths int `[E]`) in the order of the model, after checking that all of it fits."""
    if set(banks) != set(allocation.bits):
        missing = sorted(set(banks) - set(allocation.bits)) or ["none"]
        unknown = sorted(set(allocation.bits) - set(banks)) or ["none"]
        raise QuantizationError(
            "The allocation is for another model. Banks of the model without bits: "
            f"{_some(missing)}. Banks of the allocation that the model lacks: {_some(unknown)}."
        )
    return [entry for name, bank in banks.items() for entry in _bank_plan(bank, np.asarray(allocation.bits[name]))]


def _bank_plan(bank: ExpertBank, bits: np.ndarray) -> Iterator[tuple[str, str, np.ndarray]]:
    if bits.shape not in ((bank.experts,), (bank.experts, 2)):
        raise QuantizationError(
            f"Bank {bank.name} of the model has {bank.experts} experts; the allocation's bits have shape "
            f"{bits.shape} where ({bank.experts},) or ({bank.experts}, 2) is needed."
        )
    if strange := sorted(set(bits.ravel().tolist()) - {*WIDTHS, UNTOUCHED}):
        raise QuantizationError(f"Bank {bank.name}: widths {strange} are not offered; choose from {(*WIDTHS, 16)}.")
    columns = bits if bits.ndim == 2 else np.stack([bits, bits], axis=1)
    for projection in bank.projections:
        if bank.stacked(projection).device.type == "meta":
            raise QuantizationError(f"The weights of {bank.name} are not in memory (offloaded); load the model whole.")
        yield bank.name, projection, columns[:, 1 if projection == "down" else 0]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
