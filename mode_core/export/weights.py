"""The weights that an export writes, whatever they come from: a loaded model, or a checkpoint read piece by piece."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mode_core.export.folder import ExportError
from mode_core.export.request import Request
from mode_core.jobs import Reporter

if TYPE_CHECKING:
    from torch import Tensor

    from mode_core.models import LoadedModel
    from mode_core.quantization import QuantizedModel
    from mode_core.quantization.packing import PackedMatrix
    from mode_core.statistics import BankShape


@dataclass(frozen=True)
class ExpertMatrix:
    """One matrix `[out, in]` of one expert: packed, or (width 16) as it was, in bfloat16."""

    bank: str
    expert: int
    projection: str
    packed: PackedMatrix | None
    original: Tensor | None = None

    @property
    def module(self) -> str:
        """The name of the linear layer that this is where experts are separate layers."""
        return f"{self.bank}.{self.expert}.{self.projection}_proj"

    def values(self) -> Tensor:
        """What the codes stand for, `[out, in]` in bfloat16."""
        import torch

        return self.original if self.packed is None else self.packed.dequantize(torch.bfloat16)


class Weights(Protocol):
    """What a writer of checkpoints asks for. Banks are named as the allocation names them."""

    shapes: dict[str, BankShape]

    def experts(self) -> Iterator[ExpertMatrix]:
        """Every matrix of every routed expert: bank by bank, expert by expert, gate, up, down."""

    def others(self) -> Iterator[tuple[str, Tensor]]:
        """Every other tensor by name, in bfloat16 where it is a number with a point."""

    def config(self) -> dict[str, object]:
        """The model's configuration, naming bfloat16 as its type."""

    def companions(self, folder: Path) -> None:
        """Write what lies beside weights and configuration: processor, tokenizer, generation settings."""


@contextmanager
def open_weights(request: Request) -> Iterator[Weights]:
    """The weights of the request's model, its experts quantized to the allocation.

    From a loaded model: it is quantized as a whole, and restored when the block ends. From a checkpoint's folder:
    tensors are read and quantized as they are asked for, and never more than a few experts are in memory.
    """
    if request.loaded is not None:
        from mode_core.quantization.apply import quantize_experts

        with quantize_experts(
            request.loaded,
            request.allocation,
            request.method,
            request.group_size,
            request.symmetric,
            progress=request.progress,
            cancel=request.cancel,
            **request.quantizer,
        ) as quantized:
            yield LoadedWeights(request.loaded, quantized)
    elif request.checkpoint is not None:
        from mode_core.export.checkpoint import CheckpointWeights

        steps = sum(len(bits) for bits in request.allocation.bits.values())
        with CheckpointWeights(request, Reporter(request.progress, steps, request.cancel)) as weights:
            yield weights
    else:
        raise ExportError("This target writes the model's weights: give the loaded model, or its checkpoint's folder.")


class LoadedWeights:
    """Weights of a model in memory, while its experts are quantized."""

    def __init__(self, loaded: LoadedModel, quantized: QuantizedModel):
        self._loaded, self._quantized = loaded, quantized
        self.shapes = Request(quantized.allocation, loaded=loaded).shapes()

    def experts(self) -> Iterator[ExpertMatrix]:
        """See `Weights`."""
        for name, bank in self._loaded.banks.items():
            for expert in range(bank.experts):
                for projection in bank.projections:
                    packed = self._quantized.packed.get((name, expert, projection))
                    original = bank.matrix(projection, expert).bfloat16() if packed is None else None
                    yield ExpertMatrix(name, expert, projection, packed, original)

    def others(self) -> Iterator[tuple[str, Tensor]]:
        """See `Weights`; tied tensors come once."""
        model, banks = self._loaded.model, self._loaded.banks
        experts = {id(p) for bank in banks.values() for p in bank.module.parameters()}
        for name, parameter in model.named_parameters():
            if id(parameter) not in experts:
                yield name, in_bfloat16(parameter.detach())
        kept = model.state_dict().keys()
        for name, buffer in model.named_buffers():
            if name in kept:
                yield name, in_bfloat16(buffer)

    def config(self) -> dict[str, object]:
        """See `Weights`."""
        return naming_bfloat16(json.loads(json.dumps(self._loaded.model.config.to_dict(), default=str)))

    def companions(self, folder: Path) -> None:
        """See `Weights`."""
        self._loaded.processor.save_pretrained(folder)
        if self._loaded.model.can_generate():
            self._loaded.model.generation_config.save_pretrained(folder)


def in_bfloat16(tensor: Tensor) -> Tensor:
    """The tensor in bfloat16 where it holds floating-point numbers."""
    return tensor.bfloat16() if tensor.is_floating_point() else tensor


def naming_bfloat16(config: object) -> object:
    """A configuration that names bfloat16 wherever it named the type the model was loaded in."""
    if not isinstance(config, dict):
        return config
    return {k: "bfloat16" if k in ("dtype", "torch_dtype") else naming_bfloat16(v) for k, v in config.items()}


def write_config(folder: Path, config: dict[str, object]) -> None:
    """config.json."""
    (folder / "config.json").write_text(json.dumps(config, indent=1, default=str) + "\n", encoding="utf-8")
