"""A plain checkpoint whose expert weights are the values of the quantized codes, under the files' own names, in their
layout and type."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from mode_core.export.checkpoint import write_checkpoint
from mode_core.export.folder import ExportError
from mode_core.export.naming import as_in_files
from mode_core.export.request import Request
from mode_core.export.target import Said
from mode_core.export.weights import Weights, open_weights

if TYPE_CHECKING:
    from torch import Tensor

    from mode_core.export.stored_banks import StoredBank
    from mode_core.export.weights import ExpertMatrix

APART_NOTE = (
    "The source has a tensor for every expert where transformers looks for fused ones, and so has what is written: "
    "stock from_pretrained starts such experts at random, with a warning alone. Engines that read the source read this."
)
APART_LINES = """\
from mode_core.models import load_model
loaded = load_model(".")
model, processor = loaded.model, loaded.processor
"""


def write_dequantized(request: Request, folder: Path) -> Said:
    """Write the source again, its experts at the values of their codes.

    It takes as much room as the original: this is for tools that evaluate, not for saving memory. Memory: one bank
    beside what `weights.Weights` needs.

    Raises:
        ExportError: no model at hand; experts that lie otherwise in the files than transformers would write them.
    """
    weights = open_weights(request)
    said = write_checkpoint(weights, folder, _values if weights.banks else _as_transformers_writes)
    apart = weights.routed.intersection(weights.strange)
    return Said((*said.notes, APART_NOTE), APART_LINES) if apart else said


def _values(weights: Weights) -> Iterator[tuple[str, Tensor]]:
    """The experts' tensors as the files have them, with the values of their codes."""
    matrices = weights.experts()
    for bank in weights.banks.values():
        own = islice(matrices, bank.shape.experts * len(bank.projections))
        if bank.fused:
            yield from _fused(weights, bank, own)
            continue
        for matrix in own:
            name = bank.names[matrix.projection].format(matrix.expert)
            yield name, matrix.values(weights.files.dtype(name))


def _fused(weights: Weights, bank: StoredBank, matrices: Iterator[ExpertMatrix]) -> Iterator[tuple[str, Tensor]]:
    import torch

    turned, whole = bank.transposed or weights.restored is not None, {}
    for name in bank.tensors():
        experts, *sides = weights.files.shape(name)
        sides = sides if turned == bank.transposed else sides[::-1]
        room = torch.empty(experts, *sides, dtype=weights.files.dtype(name))
        whole[name] = room.mT if turned else room  # [E, out, in], whatever the layout in memory
    for matrix in matrices:
        place = whole[bank.names[matrix.projection]]
        place[matrix.expert, bank.rows[matrix.projection]] = matrix.values(place.dtype)
    for name, tensor in whole.items():
        yield name, tensor.mT if turned else tensor


def _as_transformers_writes(weights: Weights) -> Iterator[tuple[str, Tensor]]:
    """The experts of a loaded model that the files store in a way known to transformers alone."""
    written = as_in_files(weights.network)
    for name in filter(weights.routed.__contains__, weights.files.names):
        if name not in written or written[name].shape != tuple(weights.files.shape(name)):
            raise ExportError(f"{weights.folder} stores {name} in a way that is not known here, nor to transformers.")
        yield name, written[name].to(weights.files.dtype(name))
