"""How curved the loss is in each expert's weights: the Hessian's trace, by Hutchinson's estimator.

The loss of a sample is −log p(ỹ), the labels ỹ drawn from the model itself at its own answer, as in `gradients`. For a
random vector v of independent ±1 over all weights of all experts, E[v ∘ Hv] is the diagonal of the Hessian H; its sums
over gate, up and down of an expert estimate the traces of these blocks. Hv is a gradient of ⟨∂loss/∂W, v⟩ (a second
backward pass), so H is the true one, routing included (Hutchinson 1989; HAWQ-V2, arXiv 1911.03852, for networks).

Each sample goes alone, so that folds stay apart. Vectors are made from (seed, probe, sample id) alone. The model is in
float32 meanwhile, with the plain attention and the plain loop over experts, which can be differentiated twice.

Cost per sample and probe: about four passes of the model. Memory: the float32 model, twice the experts' weights, and
what autograd keeps of one sample for two backward passes, full attention weights included. For small models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mode_core.calibration.gradients import (
    DrawnAnswers,
    barred_tokens,
    draw_answers,
    draw_tokens,
    log_likelihood,
    ordinary,
    sample_seed,
    uniforms,
)
from mode_core.calibration.settings import CalibrationSettings
from mode_core.calibration.sums import BankSums
from mode_core.errors import CalibrationError
from mode_core.models import PROJECTIONS, ExpertBank, LoadedModel
from mode_core.models.last_logits import keeping
from mode_core.models.offloading import is_offloaded
from mode_core.samples import Sample
from mode_core.statistics import fold_of

PROBES = 1 << 20  # added to the number of a probe, so that no answer or label shares its random numbers


def add_hessian_traces(
    loaded: LoadedModel,
    configs: Sequence[Any],
    samples: Sequence[Sample],
    settings: CalibrationSettings,
    sums: dict[str, BankSums],
) -> None:
    """Add the estimated traces of every sample to the banks' sums; `configs` are those that name the kernels.

    Raises:
        CalibrationError: weights of the model are on disk, or its code lets no gradient reach them.
    """
    if is_offloaded(loaded.model):
        raise CalibrationError(
            "The Hessian's trace needs the whole model in memory; load it without a memory limit, or take --gradients, "
            "which stream from disk."
        )
    with _twice_differentiable(loaded.model, configs), expert_parameters(loaded) as parameters:
        for sample in samples:
            drawn = draw_answers(loaded, [sample], settings.gradient_tokens, settings.seed)
            loss, fold = answer_loss(loaded, drawn, settings.seed), fold_of(sample.id)
            gradients = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
            if all(gradient is None for gradient in gradients):
                raise CalibrationError(
                    f"The code of {type(loaded.model).__name__} runs its experts without autograd, so the Hessian's "
                    "trace cannot be had; leave it out."
                )
            first = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)]
            for probe in range(settings.hessian_probes):
                vectors = _signs(parameters, sample_seed(sample.id, settings.seed, PROBES + probe))
                products = vector_products(first, parameters, vectors)
                for bank in loaded.banks.values():
                    trace = matrix_sums(bank, parameters, products) / settings.hessian_probes
                    sums[bank.name].add_hessian(fold, trace, 1 / settings.hessian_probes)


def answer_loss(loaded: LoadedModel, drawn: DrawnAnswers, seed: int = 0) -> Tensor:
    """−log p of labels drawn at every position of the answers, summed over the batch; can be differentiated."""
    keep = drawn.real.shape[1]
    with torch.enable_grad():
        made = loaded.model(**drawn.encoded.inputs, use_cache=False, **keeping(loaded.model, keep + 1))
        logits = ordinary(made.logits[:, -keep - 1 : -1], barred_tokens(loaded))
        labels = draw_tokens(logits.detach(), uniforms(drawn.encoded, keep, seed, 0))
        return -log_likelihood(logits, labels, drawn.real).sum()


def vector_products(first: Sequence[Tensor], parameters: Sequence[Tensor], vectors: Sequence[Tensor]) -> list[Tensor]:
    """v ∘ Hv of every parameter: `first` are its gradients with their graph, which is kept; shapes as `parameters`."""
    along = sum((gradient * vector).sum() for gradient, vector in zip(first, vectors, strict=True))
    second = torch.autograd.grad(along, parameters, retain_graph=True, materialize_grads=True)
    return [product * vector for product, vector in zip(second, vectors, strict=True)]


def matrix_sums(bank: ExpertBank, parameters: Sequence[Tensor], products: Sequence[Tensor]) -> Tensor:
    """Sums of `products` (shaped as `parameters`) over gate, up and down of a bank's experts: float64 `[E, 3]`."""
    sums = torch.zeros(bank.experts, len(PROJECTIONS), dtype=torch.float64)
    for projection in bank.projections:
        for expert in range(bank.experts):
            view = bank.matrix(projection, expert)
            for parameter, product in zip(parameters, products, strict=True):
                offset = (view.data_ptr() - parameter.data_ptr()) // parameter.element_size()
                if 0 <= offset < parameter.numel():  # the matrix is a view into this parameter
                    part = product.contiguous().as_strided(view.shape, view.stride(), offset)
                    sums[expert, PROJECTIONS.index(projection)] = part.double().sum()
    return sums


@contextmanager
def expert_parameters(loaded: LoadedModel) -> Iterator[list[nn.Parameter]]:
    """The parameters that hold the experts' matrices, requiring gradients meanwhile."""
    places = {
        bank.matrix(projection, expert).untyped_storage().data_ptr()
        for bank in loaded.banks.values()
        for projection in bank.projections
        for expert in range(bank.experts)
    }
    modules = [bank.module for bank in loaded.banks.values()]
    every = {id(p): p for module in modules for p in module.parameters() if p.untyped_storage().data_ptr() in places}
    held = [p for p in every.values() if p.dim() >= 2]
    before = [parameter.requires_grad for parameter in held]
    try:
        for parameter in held:
            parameter.requires_grad_(True)
        yield held
    finally:
        for parameter, needed in zip(held, before, strict=True):
            parameter.requires_grad_(needed)


@contextmanager
def _twice_differentiable(model: nn.Module, configs: Sequence[Any]) -> Iterator[None]:
    """Float32 and plain kernels meanwhile; afterwards every tensor has its own type again, bit for bit."""
    tensors = [t for t in chain(model.parameters(), model.buffers()) if t.is_floating_point()]
    types = [tensor.dtype for tensor in tensors]
    kernels = [(config._attn_implementation, config._experts_implementation) for config in configs]
    try:
        for config in configs:
            config._attn_implementation, config._experts_implementation = "eager", "eager"
        for tensor in tensors:
            tensor.data = tensor.data.float() if tensor.dtype.itemsize < 4 else tensor.data
        with sdpa_kernel(SDPBackend.MATH):  # for families that call it past the setting
            yield
    finally:
        for tensor, dtype in zip(tensors, types, strict=True):
            tensor.data = tensor.data.to(dtype)
        for config, (attention, experts) in zip(configs, kernels, strict=True):
            config._attn_implementation, config._experts_implementation = attention, experts


def _signs(parameters: Sequence[Tensor], seed: Sequence[int]) -> list[Tensor]:
    """Independent ±1, shaped as the parameters."""
    draw = np.random.default_rng(seed)
    return [torch.from_numpy(2.0 * draw.integers(0, 2, tuple(p.shape)) - 1).to(p.device, p.dtype) for p in parameters]
