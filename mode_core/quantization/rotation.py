"""Rotating the residual stream of a model by an orthogonal matrix, without changing what it computes (QuaRot).

A few large channels make a group's scale coarse; a random orthogonal basis spreads them over all. Norms' gains go into
the linear layers behind them; then everything that reads the stream is multiplied by Q on its inputs, everything that
writes it by Q on its outputs (arXiv 2404.00456; `--quarot_before_quant` of MODE's released code). Only rotations that
fuse into weights are done: that of what enters `down_proj` needs an engine that rotates while it computes, and gate and
up with a nonlinearity behind them cannot be rotated on their outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mode_core.errors import QuantizationError
from mode_core.models.errors import ModelError
from mode_core.models.readable_samples import usable
from mode_core.probing.residual_stream import Stream, residual_stream

if TYPE_CHECKING:
    from mode_core.models import LoadedModel
    from mode_core.samples import Sample

CLOSE = 1e-4  # largest difference of a logit, of the largest logit where that is above 1


@dataclass(frozen=True)
class Rotated:
    """What was rotated, and how well the answers agree: `difference` is the largest of any logit on `samples` samples.
    `untied`: heads that shared the embedding's weights and now have their own."""

    seed: int
    hidden: int
    difference: float
    samples: int
    readers: int
    writers: int
    untied: tuple[str, ...]


def orthogonal(size: int, seed: int) -> Tensor:
    """A random orthogonal matrix, float64 `[size, size]`: Hadamard of the power of two in `size`, its signs drawn,
    times (Kronecker) a random orthogonal matrix of the odd rest."""
    draw = torch.Generator().manual_seed(seed)
    odd = size // (size & -size)
    plain, triangle = torch.linalg.qr(torch.randn(odd, odd, generator=draw, dtype=torch.float64))
    matrix = (plain * triangle.diagonal().sign()).contiguous()
    two = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    while len(matrix) < size:
        matrix = torch.kron(two / 2**0.5, matrix)
    signs = torch.randint(0, 2, (size,), generator=draw) * 2.0 - 1.0
    return signs.double()[:, None] * matrix


def rotate(loaded: LoadedModel, samples: Sequence[Sample], seed: int = 0) -> Rotated:
    """Rotate a model that is loaded in float32, and prove on `samples` that its logits are what they were.

    Tied embeddings are untied, since the head takes the last norm's gain and the embedding does not. Memory: the model,
    `24 · H²` bytes, the samples' logits twice, and for two samples all that norms of the stream get and give, twice.
    After a refusal the model in memory may be changed; load it again.

    Raises:
        QuantizationError: another type than float32, or a model that cannot be rotated, with the reason.
    """
    if loaded.dtype != torch.float32:
        raise QuantizationError(f"Rotating needs the model in float32 to prove itself; it is loaded as {loaded.dtype}.")
    samples = usable(loaded, samples)
    before = _logits(loaded, samples)
    watched = list({sample.modality: sample for sample in samples}.values())  # one of each kind
    try:
        stream = residual_stream(loaded, loaded.encode(watched).inputs)
    except ModelError as why:
        raise QuantizationError(f"{loaded.name} cannot be rotated: {why}.") from None
    untied = _untie(loaded.model, stream)
    _turn(loaded, stream, orthogonal(stream.hidden, seed).to(loaded.device))
    difference = float((_logits(loaded, samples) - before).abs().max())
    if not difference <= CLOSE * max(1.0, float(before.abs().max())):
        raise QuantizationError(
            f"{loaded.name} cannot be rotated: on {len(samples)} samples a logit changed by {difference:.2g}, so "
            "something other than linear layers behind plain RMSNorms reads or writes its residual stream "
            "(several streams, a norm or scale of its own, a table). Nothing was written."
        )
    reading, writing = len(stream.readers) + len(stream.banks_reading), len(stream.writers) + len(stream.banks_writing)
    return Rotated(seed, stream.hidden, difference, len(samples), reading, writing + len(stream.parameters), untied)


def _logits(loaded: LoadedModel, samples: Sequence[Sample]) -> Tensor:
    """Of all positions, `[tokens, vocabulary]`; one sample after the other."""
    with torch.no_grad():
        every = [loaded.model(**loaded.encode([sample]).inputs, use_cache=False).logits[0] for sample in samples]
    return torch.cat(every)


def _untie(model: nn.Module, stream: Stream) -> tuple[str, ...]:
    """Give every head that shares the embedding's weights some of its own."""
    shared = model.get_input_embeddings().weight
    heads = tuple(n for n in stream.readers if getattr(model.get_submodule(n), "weight", None) is shared)
    for head in heads:
        model.get_submodule(head).weight = nn.Parameter(shared.detach().clone(), requires_grad=False)
    for config in (model.config, model.config.get_text_config()) if heads else ():
        config.tie_word_embeddings = False
    return heads


def _turn(loaded: LoadedModel, stream: Stream, turn: Tensor) -> None:
    """Fold the gains, then multiply by `turn` [H, H]: a state x (a row) becomes x·turn."""
    model, plain = loaded.model, torch.ones(stream.hidden, dtype=turn.dtype, device=turn.device)
    gains = {name: gain.to(turn) for name, (gain, _) in stream.norms.items()} | {"": plain}
    into = {name: gain[:, None] * turn for name, gain in gains.items()}
    for name, norm in stream.readers.items():
        for matrix in model.get_submodule(name).parameters(recurse=False):
            if matrix.dim() == 2 and matrix.shape[1] == stream.hidden:
                _multiply(matrix.data, into[norm])
    for name, norm in stream.banks_reading.items():
        bank = loaded.banks[name]
        for expert in range(bank.experts):
            for projection in bank.projections[:-1]:
                _multiply(bank.matrix(projection, expert), into[norm])
    for name, (_, neutral) in stream.norms.items():
        model.get_submodule(name).weight.data.fill_(neutral)
    for name in stream.writers:
        module = model.get_submodule(name)
        _multiply(module.weight.data if isinstance(module, nn.Embedding) else module.weight.data.mT, turn)
        if getattr(module, "bias", None) is not None:
            _multiply(module.bias.data, turn)
    for name in stream.banks_writing:
        bank = loaded.banks[name]
        for expert in range(bank.experts):
            _multiply(bank.matrix("down", expert).mT, turn)
            if (bias := bank.bias("down", expert)) is not None:
                _multiply(bias, turn)
    for name in stream.parameters:
        _multiply(model.get_parameter(name).data, turn)


def _multiply(rows: Tensor, turn: Tensor) -> None:
    """Rows `[…, H]` of a model times `turn`, in place, computed in its type."""
    rows.copy_(rows.to(turn.dtype) @ turn)
