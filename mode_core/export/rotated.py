"""A model's folder with its residual stream rotated: the same answers, in the same form, for everything that reads it.

The rotation is in the weights, so stock transformers opens the folder, and every other verb works on it as on the
original: calibrate it, and sensitivities, Hessians, codes and exports are those of the rotated weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from mode_core.allocation import uniform_allocation
from mode_core.export.checkpoint import write_checkpoint
from mode_core.export.dequantized import as_transformers_writes, values
from mode_core.export.folder import ExportError, check_destination, whole_folder
from mode_core.export.naming import as_in_files
from mode_core.export.request import Request
from mode_core.export.weights import ExpertMatrix, Weights, source_folder
from mode_core.models.checkpoint_files import CheckpointFiles
from mode_core.models.folders import named_dtype
from mode_core.models.outline import LANGUAGE_PARTS, configuration
from mode_core.models.weight_loading import check_files
from mode_core.quantization.rotation import Rotated, rotate
from mode_core.quantization.widths import UNTOUCHED

if TYPE_CHECKING:
    from torch import Tensor

    from mode_core.models import LoadedModel
    from mode_core.samples import Sample

NOTE = "mode_rotation"  # what config.json says of it; exports carry it on


@dataclass(frozen=True)
class RotatedFolder:
    """What was written: the rotation, the type of its weights, and tensors of the source that are left out, since the
    model's class does not use them and so nobody rotated them (for predicting several tokens at once)."""

    folder: Path
    rotated: Rotated
    dtype: str
    left_out: tuple[str, ...]


def write_rotated(
    loaded: LoadedModel,
    directory: str | Path,
    samples: Sequence[Sample],
    seed: int = 0,
    dtype: torch.dtype | None = None,
    trust_remote_code: bool = False,
) -> RotatedFolder:
    """Rotate a model that is loaded in float32 and write it to a new folder; in memory it is the rotated one then.

    `samples` (with pictures and without, where the model reads them) prove it. `dtype` is that of the written weights;
    None takes each tensor's own in the source. Memory: that of
    `rotate`, and the largest bank.

    Raises:
        QuantizationError: it cannot be rotated, with the reason. ExportError: something lies there, or the source's
            files are in a form that is not known.
    """
    folder, source = Path(directory), source_folder(loaded)
    check_destination(folder, "rotated")
    weights = _Rotated(loaded, source, dtype)
    made = rotate(loaded, samples, seed)
    weights.heads = tuple(f"{head}.weight" for head in made.untied)
    named = named_dtype(weights.config) or "stored" if dtype is None else str(dtype).removeprefix("torch.")
    with whole_folder(folder) as building:
        experts = values if weights.banks else as_transformers_writes
        write_checkpoint(weights, building, experts, _changes(weights, made, dtype), _Rotated.others)
        with CheckpointFiles(building) as files:
            check_files(files, configuration(str(building), trust_remote_code), trust_remote_code)
    return RotatedFolder(folder, made, named, tuple(n for n in weights.strange if n not in weights.routed))


def _changes(weights: _Rotated, made: Rotated, dtype: torch.dtype | None) -> dict[str, object]:
    config = weights.config
    changes: dict[str, object] = {"tie_word_embeddings": False} if made.untied else {}
    if dtype is not None:
        changes["dtype"] = str(dtype).removeprefix("torch.")
    parts = {part: {**config[part], **changes} for part in LANGUAGE_PARTS if isinstance(config.get(part), dict)}
    return changes | parts | {NOTE: {k: v for k, v in asdict(made).items() if k in ("seed", "hidden", "difference")}}


class _Rotated(Weights):
    """The tensors of a loaded model, under the names and in the form of the files that it came from."""

    heads: tuple[str, ...] = ()

    def __init__(self, loaded: LoadedModel, folder: Path, dtype: torch.dtype | None):
        plain = {name: np.zeros([bank.experts, 1]) for name, bank in loaded.banks.items()}
        self.loaded, self._dtype = loaded, dtype
        untouched = uniform_allocation(plain, (UNTOUCHED,), UNTOUCHED)
        super().__init__(Request(untouched, loaded=loaded), folder, loaded.model)

    def dtype(self, name: str) -> torch.dtype:
        """That of the file, or the one asked for where it is a floating one."""
        own = self.files.dtype(name)
        return self._dtype if self._dtype is not None and own.is_floating_point else own

    def _quantizing(self) -> AbstractContextManager[None]:
        return nullcontext()

    def experts(self) -> Iterator[ExpertMatrix]:
        """Every matrix of every routed expert, as it is in the model."""
        for stored in self.banks.values():
            kind = self.dtype(next(stored.tensors()))
            bank = self.loaded.banks[stored.name]
            for expert in range(bank.experts):
                for projection in stored.projections:
                    matrix = bank.matrix(projection, expert)
                    yield ExpertMatrix(stored.name, expert, projection, None, matrix.to(kind))

    @cached_property
    def _as_saved(self) -> dict[str, Tensor]:
        return as_in_files(self.network)

    def others(self) -> Iterator[tuple[str, Tensor]]:
        """Every other tensor, as it is in the model, and the heads that the files had no tensor for."""
        state = self.network.state_dict()
        for name in self.files.names:
            if name in self.routed or name in self.strange:
                continue
            tensor, shape = state[self.names[name]], tuple(self.files.shape(name))
            if tuple(tensor.shape) != shape:
                tensor = self._as_saved.get(name)
            if tensor is None or tuple(tensor.shape) != shape:
                raise ExportError(f"{self.folder} stores {name} in a way that is not known here, nor to transformers.")
            yield name, tensor.to(self.dtype(name))
        shared = self.network.get_input_embeddings().weight
        places = {id(parameter): name for name, parameter in self.network.named_parameters()}
        embedding = next(stored for stored, name in self.names.items() if name == places[id(shared)])
        for name in set(self.heads) - set(self.files.names):
            yield name, state[name].to(self.dtype(embedding))
