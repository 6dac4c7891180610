"""Weights → packed codes, matrix by matrix as a plan says: from the weights alone, or with what enters them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mode_core.jobs import Reporter
from mode_core.quantization.gptq import gptq
from mode_core.quantization.grids import Codes
from mode_core.quantization.hessians import ExpertHessians, HessianPass, plan_passes, run_pass
from mode_core.quantization.methods import on_cpu, quantize_data_free
from mode_core.quantization.packing import pack_matrices
from mode_core.quantization.plan import SIDES, Plan
from mode_core.quantization.quantizers import DATA_FREE
from mode_core.quantization.widths import DROPPED, UNTOUCHED

if TYPE_CHECKING:
    from mode_core.models import ExpertBank
    from mode_core.quantization.quantized_model import QuantizedModel
    from mode_core.samples import Sample


def fill_data_free(quantized: QuantizedModel, plan: Plan, reporter: Reporter) -> None:
    """Quantize all that the plan touches by a quantizer that looks at weights alone."""
    for name, widths in plan.experts.items():
        bank = quantized.loaded.banks[name]
        for projection in bank.projections:
            column = widths[:, SIDES.index("down" if projection == "down" else "up")]
            _experts_data_free(quantized, bank, projection, np.arange(bank.experts), column, quantized.quantizer.grid)
            reporter.step(f"layer {bank.layer}: {projection}")
    for name, (linear, width) in plan.linears.items():
        codes = quantize_data_free(linear.weight.detach()[None], width, **quantized.quantizer.grid)
        quantized.linears[name] = pack_matrices(codes)[0]
        reporter.step(name)


def _experts_data_free(
    quantized: QuantizedModel,
    bank: ExpertBank,
    projection: str,
    experts: np.ndarray,
    widths: np.ndarray,
    grid: Mapping[str, Any],
) -> None:
    """Quantize some experts of one projection, `widths` int `[len(experts)]`, width by width."""
    for width in np.unique(widths[widths != UNTOUCHED]):
        chosen = experts[widths == width]
        codes = quantize_data_free(_stack(bank, projection, chosen), int(width), **grid)
        _keep(quantized, bank.name, projection, chosen, codes)


def fill_second_order(quantized: QuantizedModel, plan: Plan, samples: Sequence[Sample], reporter: Reporter) -> None:
    """Quantize all that the plan touches with Hessians from the samples, as many at a time as fit into memory.

    Samples that the model's processor refuses are left out, and named in `quantized.samples.errors`. Experts and
    layers with fewer than `least_tokens` tokens are quantized by `DATA_FREE`, and noted.
    """
    from mode_core.models import usable
    from mode_core.models.answering import own_answers

    settings, instead = quantized.quantizer.gptq, quantized.quantizer.grid | {"method": DATA_FREE}
    quantized.samples = samples = usable(quantized.loaded, samples, cancel=reporter.cancel)
    if settings.own_answers:
        answered = own_answers(quantized.loaded, samples, settings.own_answers, cancel=reporter.cancel)
        quantized.samples = samples = usable(quantized.loaded, answered, cancel=reporter.cancel)
    banks = quantized.loaded.banks
    experts = {name: plan.touched(name) for name in banks}
    linears = {name: linear for name, (linear, _) in plan.linears.items()}
    passes = plan_passes(banks, {name: chosen for name, chosen in experts.items() if chosen}, linears, settings)
    # beside the two sides of every bank that the reporter counts: the samples of every pass; banks cut into several
    # passes, and banks where nothing is to be done
    parts = sum(len(wanted.experts) for wanted in passes)
    reporter.total += len(passes) * len(samples) + len(SIDES) * (parts - len(banks))
    for name, widths in plan.experts.items():  # experts that are left out need no tokens
        for side in SIDES:
            left_out = np.flatnonzero(widths[:, SIDES.index(side)] == DROPPED)
            for projection in _projections(banks[name], side):
                zero = np.full(len(left_out), DROPPED)
                _experts_data_free(quantized, banks[name], projection, left_out, zero, instead)
    few: dict[str, list[int]] = {}
    for wanted in passes:
        run_pass(quantized.loaded, wanted, samples, settings, reporter)
        for name, sums in wanted.banks.items():
            few[name] = few.get(name, []) + _fill_bank(quantized, plan.experts[name], sums, reporter)
        _fill_linears(quantized, plan, wanted, reporter)
        wanted.banks.clear()
        wanted.sums.clear()
    quantized.data_free = {name: tuple(found) for name, found in few.items() if found}


def _fill_bank(quantized: QuantizedModel, widths: np.ndarray, sums: ExpertHessians, reporter: Reporter) -> list[int]:
    """Quantize the experts of one bank whose Hessians are there; returns those that had too few tokens."""
    experts, routed = np.array(sums.experts), sums.routed.numpy()
    quantized.tokens |= {(sums.bank.name, int(e)): int(n) for e, n in zip(experts, routed, strict=True)}
    enough = routed >= quantized.quantizer.gptq.least_tokens
    instead = quantized.quantizer.grid | {"method": DATA_FREE}
    for side in SIDES:
        column = widths[experts, SIDES.index(side)]
        projections = _projections(sums.bank, side)
        for projection in projections:
            asked = np.where(column == DROPPED, UNTOUCHED, column)  # those were done before
            _experts_data_free(quantized, sums.bank, projection, experts[~enough], asked[~enough], instead)
        for width in np.unique(column[enough & ~np.isin(column, (DROPPED, UNTOUCHED))]):
            places = np.flatnonzero(enough & (column == width))
            _second_order(quantized, sums, side, projections, places, int(width))
        reporter.step(f"layer {sums.bank.layer}: {' and '.join(projections)}")
    return experts[~enough].tolist()


def _second_order(
    quantized: QuantizedModel,
    sums: ExpertHessians,
    side: str,
    projections: tuple[str, ...],
    places: np.ndarray,
    width: int,
) -> None:
    """Quantize one side of some experts: gate and up share what enters them, so they are solved as one matrix."""
    chosen = np.array(sums.experts)[places]
    weights = torch.cat([_stack(sums.bank, projection, chosen) for projection in projections], dim=1)
    hessians = sums.weighted(side, torch.from_numpy(places))
    codes = _gptq(quantized, weights, hessians, width)
    rows = weights.shape[1] // len(projections)
    for number, projection in enumerate(projections):
        part = slice(number * rows, (number + 1) * rows)
        zeros = None if codes.zeros is None else codes.zeros[:, part]
        shape = (len(chosen), rows, weights.shape[2])
        own = Codes(codes.codes[:, part], codes.scales[:, part], zeros, width, codes.group_size, shape)
        _keep(quantized, sums.bank.name, projection, chosen, on_cpu(own))


def _gptq(quantized: QuantizedModel, weights: Tensor, hessians: Tensor, width: int) -> Codes:
    own, grid = quantized.quantizer.gptq, quantized.quantizer.grid
    return gptq(weights, hessians, width, grid["group_size"], grid["symmetric"], own.damping, own.block)


def _fill_linears(quantized: QuantizedModel, plan: Plan, wanted: HessianPass, reporter: Reporter) -> None:
    for name, sums in wanted.sums.items():
        linear, width = plan.linears[name]
        weights = linear.weight.detach()[None]
        if sums.tokens < quantized.quantizer.gptq.least_tokens:
            codes = quantize_data_free(weights, width, **quantized.quantizer.grid | {"method": DATA_FREE})
            quantized.data_free_linears += (name,)
        else:
            codes = on_cpu(_gptq(quantized, weights, sums.sum[None], width))
        quantized.linears[name] = pack_matrices(codes)[0]
        reporter.step(name)


def _projections(bank: ExpertBank, side: str) -> tuple[str, ...]:
    return ("down",) if side == "down" else bank.projections[:-1]


def _stack(bank: ExpertBank, projection: str, experts: np.ndarray) -> Tensor:
    """Some experts' matrices, `[n, out, in]`, copied."""
    if not len(experts):
        return bank.matrix(projection, 0)[None][:0]
    return torch.stack([bank.matrix(projection, int(expert)) for expert in experts])


def _keep(quantized: QuantizedModel, bank: str, projection: str, experts: np.ndarray, codes: Codes) -> None:
    for expert, matrix in zip(experts, pack_matrices(codes), strict=True):
        quantized.packed[bank, int(expert), projection] = matrix
