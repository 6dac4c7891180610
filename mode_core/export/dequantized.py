"""A plain checkpoint whose expert weights are the values of the quantized codes, under the files' own names, in their
layout and type, where stock transformers reads these."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from mode_core.export.checkpoint import write_checkpoint
from mode_core.export.folder import ExportError
from mode_core.export.naming import as_in_files
from mode_core.export.request import Request
from mode_core.export.weights import Weights, open_weights

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from mode_core.export.stored_banks import StoredBank
    from mode_core.export.weights import ExpertMatrix


def write_dequantized(request: Request, folder: Path) -> tuple[str, ...]:
    """Write the source again, its experts at the values of their codes.

    It takes as much room as the original: this is for tools that evaluate, not for saving memory. Memory: one bank
    beside what `weights.Weights` needs.

    Raises:
        ExportError: no model at hand; experts that lie otherwise in the files than transformers would write them.
    """
    weights = open_weights(request)
    return write_checkpoint(weights, folder, values if weights.banks else as_transformers_writes)


def values(weights: Weights, kept: Mapping[str, Mapping[int, int]] | None = None) -> Iterator[tuple[str, Tensor]]:
    """The experts' tensors in the form that `weights.form` says, with the values of their codes; `kept`: of every bank
    those that stay, and their new numbers."""
    matrices = weights.experts()
    for bank in weights.banks.values():
        own = islice(matrices, bank.shape.experts * len(bank.projections))
        if kept is not None:
            own = _renumbered(own, kept[bank.name])
            bank = replace(bank, shape=replace(bank.shape, experts=len(kept[bank.name])))
        if (form := weights.form(bank)).fused:
            types = {form.names[part]: weights.dtype(name.format(0)) for part, name in bank.names.items()}
            yield from _fused(form, types, own)
            continue
        for matrix in own:
            name = bank.names[matrix.projection].format(matrix.expert)
            yield name, matrix.values(weights.dtype(name))


def _renumbered(matrices: Iterator[ExpertMatrix], kept: Mapping[int, int]) -> Iterator[ExpertMatrix]:
    return (replace(matrix, expert=kept[matrix.expert]) for matrix in matrices if matrix.expert in kept)


def _fused(
    form: StoredBank, types: dict[str, torch.dtype], matrices: Iterable[ExpertMatrix]
) -> Iterator[tuple[str, Tensor]]:
    import torch

    whole: dict[str, Tensor] = {}  # [E, out, in], whatever the layout in memory
    for name, (experts, rows, columns) in form.sides().items():
        sides = (columns, rows) if form.transposed else (rows, columns)
        room = torch.empty(experts, *sides, dtype=types[name])
        whole[name] = room.mT if form.transposed else room
    for matrix in matrices:
        place = whole[form.names[matrix.projection]]
        place[matrix.expert, form.rows[matrix.projection]] = matrix.values(place.dtype)
    for name, tensor in whole.items():
        yield name, tensor.mT if form.transposed else tensor


def as_transformers_writes(weights: Weights) -> Iterator[tuple[str, Tensor]]:
    """The experts of a loaded model that the files store in a way known to transformers alone."""
    written = as_in_files(weights.network)
    for name in filter(weights.routed.__contains__, weights.files.names):
        if name not in written or written[name].shape != tuple(weights.files.shape(name)):
            raise ExportError(f"{weights.folder} stores {name} in a way that is not known here, nor to transformers.")
        yield name, written[name].to(weights.dtype(name))
