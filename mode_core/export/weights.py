"""The weights that an export writes: experts quantized, and all else as the model's folder has it.

Whether the model is loaded or its folder is read piece by piece, names, layout, types, configuration and companion
files are those of the folder. Only where the codes come from differs: from the loaded model, which a quantizer that
looks at data needs, or from the files as they are read, so that a model may exceed the memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mode_core.export.folder import ExportError
from mode_core.export.naming import model_names
from mode_core.export.published_forms import PUBLISHED, Published
from mode_core.export.request import Request, shape_of
from mode_core.export.stored_banks import OtherStorage, StoredBank, bank_of, stored_banks
from mode_core.jobs import Reporter, check
from mode_core.quantization.quantizers import QUANTIZERS
from mode_core.quantization.widths import UNTOUCHED

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from mode_core.models import LoadedModel
    from mode_core.quantization.packing import PackedMatrix
    from mode_core.quantization.quantized_model import QuantizedModel

CHUNK = 1 << 24  # weights of experts quantized at once


@dataclass(frozen=True)
class ExpertMatrix:
    """One matrix `[out, in]` of one expert: packed, or (width 16) as the files have it."""

    bank: str
    expert: int
    projection: str
    packed: PackedMatrix | None
    original: Tensor | None = None

    @property
    def module(self) -> str:
        """The name of the linear layer that this is where experts are separate layers: the model's, since transformers
        would join what goes by the files' names."""
        return f"{self.bank}.{self.expert}.{self.projection}_proj"

    def values(self, dtype: torch.dtype) -> Tensor:
        """What the codes stand for, `[out, in]`."""
        return self.original if self.packed is None else self.packed.dequantize(dtype)


class Weights:
    """The tensors of an export, one after another. `banks` and `shapes` go by the model's names of the banks.

    Memory: `CHUNK` weights of experts as floating-point numbers and their codes, and the largest other tensor; with a
    loaded model, also what `quantize_experts` takes.

    Raises:
        ExportError: the allocation is of another model; a quantizer that needs the model loaded; storage that is not
            known here.
        ModelError: while they are read: weights that are not finite.
    """

    def __init__(self, request: Request, folder: Path, network: nn.Module):
        from mode_core.models.checkpoint_files import CheckpointFiles

        banks = request.banks
        if strange := sorted(set(banks) ^ set(request.allocation.bits)):
            raise ExportError(
                f"The allocation and the checkpoint {folder} are of different models: {strange[0]} is in one only."
            )
        self.request, self.folder, self.network, self._quantized = request, folder, network, None
        self.files = CheckpointFiles(folder)
        self.shapes = {name: shape_of(bank) for name, bank in banks.items()}
        self.names = model_names(network, self.files.names)
        self.linears = self._linears()
        try:
            self.banks = stored_banks(self.files, banks, self.names)
        except OtherStorage as told:
            if request.loaded is None:
                raise ExportError(f"{told} Write it from the loaded model (so without --stream).") from None
            self.banks = {}  # transformers, which loaded them, knows how to write them: see `dequantized`

    @contextmanager
    def ready(self) -> Iterator[None]:
        """While a loaded model is quantized, and restored afterwards; files let go at the end."""
        try:
            with self._quantizing() as self._quantized:
                yield
        finally:
            self.files.close()

    def _quantizing(self) -> AbstractContextManager[QuantizedModel | None]:
        from mode_core.quantization.apply import quantize_experts

        request = self.request
        if request.loaded is None:
            return nullcontext()
        hooks = {"progress": request.progress, "cancel": request.cancel}
        return quantize_experts(request.loaded, request.allocation, request.quantizer, samples=request.samples, **hooks)

    @cached_property
    def strange(self) -> tuple[str, ...]:
        """Tensors in the files that have no place in the model's class, such as those for predicting several tokens;
        or experts apart where it has fused ones."""
        known = self.network.state_dict()
        return tuple(name for name in self.files.names if self.names[name] not in known)

    @property
    def companions(self) -> tuple[Path, ...]:
        """What lies beside the weights and travels as it is: tokenizer, processor, templates, code, the licence."""
        terms = (path for pattern in ("LICEN[CS]E*", "NOTICE*") for path in self.folder.glob(pattern))
        return (*self.files.companions, *terms)

    @cached_property
    def restored(self) -> Published | None:
        """The published form that is written in place of the source's; None where the source keeps its own."""
        known = PUBLISHED.get(self._source_config.get("model_type"))
        # transformers tells the two layouts apart by their shapes alone
        clear = all(s.hidden not in (s.intermediate, 2 * s.intermediate) for s in self.shapes.values())
        other = any(not (bank.fused and bank.transposed) for bank in self.banks.values())
        return known if clear and other else None

    @cached_property
    def apart(self) -> set[str]:
        """Files' names of experts apart for which transformers has fused ones, and that it would start at random."""
        return {name for name in self.routed.intersection(self.strange) if self.banks}

    def form(self, bank: StoredBank) -> StoredBank:
        """How a bank is written where experts keep their numbers: as in the files, but so that transformers reads it,
        and as published where the family's published form is restored."""
        if self.apart.intersection(bank.tensors()):
            bank = bank.joined(self.request.banks[bank.name].storage.transposed)
        return replace(bank, transposed=True) if bank.fused and self.restored is not None else bank

    @property
    def config(self) -> dict[str, object]:
        """The configuration as the folder has it, without the settings of a quantization that is undone in reading;
        with what the published one says where that is restored."""
        config = self._source_config
        if self.restored is None:
            return config
        return config | {"text_config": {**self.restored.text, **config["text_config"]}}

    @cached_property
    def _source_config(self) -> dict[str, object]:
        config = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        for part in (config, *config.values()):
            if isinstance(part, dict):
                part.pop("quantization_config", None)
        return config

    def dtype(self, name: str) -> torch.dtype:
        """The type in which a tensor of the files is written where it is not packed."""
        return self.files.dtype(name)

    def experts(self) -> Iterator[ExpertMatrix]:
        """Every matrix of every routed expert: bank by bank, expert by expert, gate, up, down."""
        steps = sum(len(bits) for bits in self.request.allocation.bits.values())
        progress = self.request.progress if self.request.loaded is None else None
        reporter = Reporter(progress, steps, self.request.cancel)
        for bank in self.banks.values():
            columns = self.request.allocation.by_side()[bank.name]
            step = max(1, CHUNK // (bank.shape.hidden * bank.shape.intermediate * len(bank.projections)))
            for first in range(0, bank.shape.experts, step):
                last = min(first + step, bank.shape.experts)
                made = {
                    projection: self._matrices(bank, projection, first, columns[first:last, int(projection == "down")])
                    for projection in bank.projections
                }
                self.files.close()  # pages of a mapped file that were read stay in memory while it is open
                for expert in range(first, last):
                    reporter.step(f"layer {bank.shape.layer}: expert {expert}")
                    for projection in bank.projections:
                        yield ExpertMatrix(bank.name, expert, projection, *made[projection][expert - first])

    def others(self) -> Iterator[tuple[str, Tensor]]:
        """Every other tensor, as the files have it; attention and shared experts rounded where that was asked for."""
        for name in self.files.names:
            if name not in self.routed:
                check(self.request.cancel)
                tensor = self.files.read(name)
                self._check_sound(name if name.endswith(".weight") else "", tensor)
                yield name, self.packed(name, tensor).dequantize(tensor.dtype) if name in self.linears else tensor
        self.files.close()

    @cached_property
    def routed(self) -> set[str]:
        """Files' names of tensors that hold routed experts."""
        if self.banks:
            return {name for bank in self.banks.values() for name in bank.tensors()}
        return {stored for stored, name in self.names.items() if bank_of(name, self.shapes)}

    def _linears(self) -> dict[str, tuple[str, int]]:
        """Files' names of layers of attention and shared experts that get a width → module and width."""
        from mode_core.quantization.plan import planned_linears

        planned = planned_linears(self.network, self.request.quantizer)
        stored = {name: place for place, name in self.names.items()}
        linears = {}
        for module, (linear, width) in planned.items():
            name = stored.get(f"{module}.weight")
            if name is None or tuple(self.files.shape(name)) != tuple(linear.weight.shape):
                raise ExportError(
                    f"The checkpoint's files hold the weight of {module} joined with others or not at all, so it "
                    "cannot be written at a width of its own; leave attention_bits and shared_bits out."
                )
            linears[name] = module, width
        return linears

    def packed(self, name: str, tensor: Tensor) -> PackedMatrix:
        """The codes of a layer that is among `linears`; `tensor` is its weight in the files."""
        module, width = self.linears[name]
        if self._quantized is not None:
            return self._quantized.linears[module]
        return self._pack(tensor[None], width)[0]

    def _matrices(
        self, bank: StoredBank, projection: str, first: int, widths: np.ndarray
    ) -> list[tuple[PackedMatrix | None, Tensor | None]]:
        """Some experts of one projection from expert `first` on: packed, or (at width 16) as they are in the files."""
        import torch

        untouched, matrices = widths == UNTOUCHED, [(None, None)] * len(widths)
        if self._quantized is not None:
            matrices = [
                (self._quantized.packed.get((bank.name, first + n, projection)), None) for n in range(len(widths))
            ]
            if not untouched.any():
                return matrices
        stack = bank.read(self.files, projection, first, first + len(widths))
        for number, matrix in enumerate(stack):
            self._check_sound(f"{bank.name}, expert {first + number}, {projection}", matrix)
        for width in np.unique(widths if self._quantized is None else widths[untouched]):
            places = np.flatnonzero(widths == width)
            chosen = stack[torch.from_numpy(places)]
            kept = width == UNTOUCHED
            for place, matrix in zip(places, chosen if kept else self._pack(chosen, int(width)), strict=True):
                matrices[place] = (None, matrix) if kept else (matrix, None)
        return matrices

    def _check_sound(self, called: str, tensor: Tensor) -> None:
        """Refuse weights that are not finite where they come from the folder; a loaded model's were looked at."""
        from mode_core.models.errors import ModelError
        from mode_core.models.weight_loading import UNSOUND, unsound

        if self.request.loaded is None and called and unsound(called, tensor):
            raise ModelError(f"{self.folder}: {called}: {UNSOUND}")

    def _pack(self, stack: Tensor, width: int) -> list[PackedMatrix]:
        from mode_core.quantization.methods import quantize_data_free
        from mode_core.quantization.packing import pack_matrices

        return pack_matrices(quantize_data_free(stack, width, **self.request.quantizer.grid))


def open_weights(request: Request) -> Weights:
    """The weights of the request's model; nothing is read or quantized yet.

    Raises:
        ExportError: neither a loaded model nor a folder; a folder that changed since; a quantizer that needs a loaded
            model; see `Weights`.
    """
    if (loaded := request.loaded) is not None:
        weights = Weights(request, folder := source_folder(loaded), loaded.model)
        if str(folder) == loaded.source and weights.files.revision() != loaded.revision:
            raise ExportError(f"The files in {folder} have changed since the model was loaded; load it again.")
        return weights
    if request.checkpoint is None:
        raise ExportError("This target writes the model's weights: give the loaded model, or its checkpoint's folder.")
    if request.quantizer.kind.needs_samples:
        others = ", ".join(name for name, kind in QUANTIZERS.items() if not kind.needs_samples)
        raise ExportError(
            f"The quantizer {request.method!r} looks at data, so it needs the model loaded; "
            f"from a checkpoint's folder choose one of: {others}."
        )
    return Weights(request, request.checkpoint, request.network)


def source_folder(loaded: LoadedModel) -> Path:
    """The folder that a model was loaded from; for a hub id, its snapshot in the hub's cache.

    Raises:
        ExportError: there is none.
    """
    folder = Path(loaded.source)
    if folder.is_dir():
        return folder
    from huggingface_hub import try_to_load_from_cache

    kept = try_to_load_from_cache(loaded.source, "config.json", revision=loaded.revision)
    if not isinstance(kept, str):
        raise ExportError(
            f"The files of {loaded.source} are neither a folder nor in the hub's cache, and an export takes names, "
            f"layout and companion files from them; download them ('hf download {loaded.source} --local-dir FOLDER') "
            "and load that folder."
        )
    return Path(kept).parent
