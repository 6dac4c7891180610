"""The weights that an export writes: experts quantized, and all else as the model's folder has it.

Whether the model is loaded or its folder is read piece by piece, names, layout, types, configuration and companion
files are those of the folder. Only where the codes come from differs: from the loaded model, which a quantizer that
looks at data needs, or from the files as they are read, so that a model may exceed the memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mode_core.export.folder import ExportError
from mode_core.export.naming import as_in_files, model_names
from mode_core.export.published import PUBLISHED, Published
from mode_core.export.request import Request, shape_of
from mode_core.export.stored_banks import OtherStorage, StoredBank, bank_of, stored_banks
from mode_core.jobs import Reporter, check
from mode_core.quantization.widths import UNTOUCHED

if TYPE_CHECKING:
    from torch import Tensor

    from mode_core.models import ExpertBank, LoadedModel
    from mode_core.quantization.packing import PackedMatrix

DATA_FREE = ("rtn", "hqq")  # quantizers that look at the weights alone
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


class Weights:
    """The tensors of an export, one after another. `banks` and `shapes` go by the model's names of the banks.

    Memory: `CHUNK` weights of experts as floating-point numbers and their codes, and the largest other tensor;
    `replaced` holds one bank beside. With a loaded model, also what `quantize_experts` takes.

    Raises:
        ExportError: the allocation is of another model; a quantizer that needs the model loaded; storage that is not
            known here.
    """

    def __init__(self, request: Request, folder: Path, network: object, banks: dict[str, ExpertBank]):
        from mode_core.models.checkpoint_files import CheckpointFiles

        if strange := sorted(set(banks) ^ set(request.allocation.bits)):
            raise ExportError(
                f"The allocation and the checkpoint {folder} are of different models: {strange[0]} is in one only."
            )
        self.request, self.folder, self._network, self._quantized = request, folder, network, None
        self.files = CheckpointFiles(folder)
        self.shapes = {name: shape_of(bank) for name, bank in banks.items()}
        self.names = model_names(network, self.files.names)
        self.linears = self._linears()
        try:
            self.banks = stored_banks(self.files, banks, self.names)
        except OtherStorage:
            if request.loaded is None:
                raise
            self.banks = {}  # transformers, which loaded them, knows how to write them: see `replaced`

    @contextmanager
    def ready(self) -> Iterator[None]:
        """While a loaded model is quantized, and restored afterwards; files let go at the end."""
        from mode_core.quantization.apply import quantize_experts

        request = self.request
        try:
            with (
                nullcontext()
                if request.loaded is None
                else quantize_experts(
                    request.loaded,
                    request.allocation,
                    request.method,
                    request.group_size,
                    request.symmetric,
                    progress=request.progress,
                    cancel=request.cancel,
                    **request.quantizer,
                ) as self._quantized
            ):
                yield
        finally:
            self.files.close()

    @property
    def unused(self) -> tuple[str, ...]:
        """Tensors in the files that the model's class does not use, such as those for predicting several tokens."""
        known = self._network.state_dict()
        return tuple(name for name in self.files.names if name not in self.routed and self.names[name] not in known)

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
        resaved = any(bank.fused and not bank.transposed for bank in self.banks.values())
        return known if clear and resaved else None

    @property
    def config(self) -> dict[str, object]:
        """The configuration as the folder has it, without the settings of a quantization that is undone in reading;
        with what the published one says where that is restored."""
        config = self._source_config
        return config if self.restored is None else config | {
            "text_config": {**self.restored.text, **config["text_config"]}
        }  # fmt: skip

    @cached_property
    def _source_config(self) -> dict[str, object]:
        config = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        config.pop("quantization_config", None)
        return config

    def experts(self) -> Iterator[ExpertMatrix]:
        """Every matrix of every routed expert: bank by bank, expert by expert, gate, up, down."""
        steps = sum(len(bits) for bits in self.request.allocation.bits.values())
        progress = self.request.progress if self.request.loaded is None else None
        reporter = Reporter(progress, steps, self.request.cancel)
        for bank in self.banks.values():
            bits = np.asarray(self.request.allocation.bits[bank.name])
            columns = bits if bits.ndim == 2 else np.stack([bits, bits], axis=1)
            step = max(1, CHUNK // (bank.shape.hidden * bank.shape.intermediate * len(bank.projections)))
            for first in range(0, bank.shape.experts, step):
                last = min(first + step, bank.shape.experts)
                made = {
                    projection: self._matrices(bank, projection, first, columns[first:last, int(projection == "down")])
                    for projection in bank.projections
                }
                self.files.close()  # pages of a mapped file that were read stay in memory while it is open
                for expert in range(first, last):
                    for projection in bank.projections:
                        yield ExpertMatrix(bank.name, expert, projection, *made[projection][expert - first])
                    reporter.step(f"layer {bank.shape.layer}: expert {expert}")

    def others(self) -> Iterator[tuple[str, Tensor]]:
        """Every other tensor, as the files have it; attention and shared experts rounded where that was asked for."""
        for name in self.files.names:
            if name not in self.routed:
                check(self.request.cancel)
                tensor = self.files.read(name)
                yield name, self.packed(name, tensor).dequantize(tensor.dtype) if name in self.linears else tensor
        self.files.close()

    def replaced(self) -> Iterator[tuple[str, Tensor]]:
        """The experts' tensors under the files' own names, in their layout and type, with the values of their codes."""
        if not self.banks:
            yield from self._as_transformers_writes()
        matrices = self.experts()
        for bank in self.banks.values():
            own = (next(matrices) for _ in range(bank.shape.experts * len(bank.projections)))
            if not bank.fused:
                for matrix in own:
                    name = bank.names[matrix.projection].format(matrix.expert)
                    yield name, self._values(matrix, name)
                continue
            whole = self._empty(bank)
            for matrix in own:
                name = bank.names[matrix.projection]
                whole[name][matrix.expert, bank.rows[matrix.projection]] = self._values(matrix, name)
            for name, tensor in whole.items():
                yield name, tensor.mT if self._turned(bank) else tensor

    @cached_property
    def routed(self) -> set[str]:
        """Files' names of tensors that hold routed experts."""
        if self.banks:
            return {name for bank in self.banks.values() for name in bank.tensors()}
        return {stored for stored, name in self.names.items() if bank_of(name, self.shapes)}

    def _linears(self) -> dict[str, tuple[str, int]]:
        """Files' names of layers of attention and shared experts that get a width → module and width."""
        from mode_core.quantization.plan import planned_linears

        asked = {part: self.request.quantizer.get(f"{part}_bits") for part in ("attention", "shared")}
        planned = planned_linears(self._network, asked)
        stored = {name: place for place, name in self.names.items()}
        found = {}
        for module, (linear, width) in planned.items():
            name = stored.get(f"{module}.weight")
            if name is None or tuple(self.files.shape(name)) != tuple(linear.weight.shape):
                raise ExportError(
                    f"The checkpoint's files hold the weight of {module} joined with others or not at all, so it "
                    "cannot be written at a width of its own; leave attention_bits and shared_bits out."
                )
            found[name] = module, width
        return found

    def packed(self, name: str, tensor: Tensor) -> PackedMatrix:
        """The codes of a layer that is among `linears`; `tensor` is its weight in the files."""
        module, width = self.linears[name]
        if self._quantized is not None:
            return self._quantized.linears[module]
        return self._pack(tensor[None], width)[0]

    def _values(self, matrix: ExpertMatrix, name: str) -> Tensor:
        return matrix.original if matrix.packed is None else matrix.packed.dequantize(self.files.dtype(name))

    def _turned(self, bank: StoredBank) -> bool:
        """Whether the bank's matrices are written `[in, out]`."""
        return bank.transposed or self.restored is not None

    def _empty(self, bank: StoredBank) -> dict[str, Tensor]:
        """Room for a fused bank's tensors, `[E, out, in]` whatever the layout in memory."""
        import torch

        whole = {}
        for name in bank.tensors():
            experts, *sides = self.files.shape(name)
            sides = sides[::-1] if self._turned(bank) != bank.transposed else sides
            tensor = torch.empty(experts, *sides, dtype=self.files.dtype(name))
            whole[name] = tensor.mT if self._turned(bank) else tensor
        return whole

    def _matrices(
        self, bank: StoredBank, projection: str, first: int, widths: np.ndarray
    ) -> list[tuple[PackedMatrix | None, Tensor | None]]:
        """Some experts of one projection from expert `first` on: packed, or (at width 16) as they are in the files."""
        import torch

        untouched, found = widths == UNTOUCHED, [(None, None)] * len(widths)
        if self._quantized is not None:
            found = [(self._quantized.packed.get((bank.name, first + n, projection)), None) for n in range(len(widths))]
            if not untouched.any():
                return found
        stack = bank.read(self.files, projection, first, first + len(widths))
        for width in np.unique(widths if self._quantized is None else widths[untouched]):
            places = np.flatnonzero(widths == width)
            chosen = stack[torch.from_numpy(places)]
            kept = width == UNTOUCHED
            for place, matrix in zip(places, chosen if kept else self._pack(chosen, int(width)), strict=True):
                found[place] = (None, matrix) if kept else (matrix, None)
        return found

    def _pack(self, stack: Tensor, width: int) -> list[PackedMatrix]:
        from mode_core.quantization.methods import quantize_data_free
        from mode_core.quantization.packing import pack_matrices

        request = self.request
        return pack_matrices(quantize_data_free(stack, width, request.group_size, request.symmetric, request.method))

    def _as_transformers_writes(self) -> Iterator[tuple[str, Tensor]]:
        """The experts of a loaded model that the files store in a way known to transformers alone.

        Raises:
            ExportError: they lie otherwise in the files than transformers would write them.
        """
        written = as_in_files(self._network)
        for name in self.routed:
            if name not in written or written[name].shape != tuple(self.files.shape(name)):
                raise ExportError(f"{self.folder} stores {name} in a way that is not known here, nor to transformers.")
            yield name, written[name].to(self.files.dtype(name))


def open_weights(request: Request) -> Weights:
    """The weights of the request's model; nothing is read or quantized yet.

    Raises:
        ExportError: neither a loaded model nor a folder; a quantizer that needs a loaded model; see `Weights`.
    """
    if (loaded := request.loaded) is not None:
        return Weights(request, source_folder(loaded), loaded.model, loaded.banks)
    if request.checkpoint is None:
        raise ExportError("This target writes the model's weights: give the loaded model, or its checkpoint's folder.")
    if request.method not in DATA_FREE:
        raise ExportError(
            f"The quantizer {request.method!r} looks at data, so it needs the model loaded; "
            f"from a checkpoint's folder choose one of: {', '.join(DATA_FREE)}."
        )
    return Weights(request, request.checkpoint, *request.outline)


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
