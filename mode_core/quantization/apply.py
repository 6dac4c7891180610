"""An allocation becomes weights: experts are quantized, packed, put into the model, and taken out again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mode_core.allocation.records import Allocation
from mode_core.errors import QuantizationError
from mode_core.jobs import Cancel, ProgressHook, Reporter
from mode_core.quantization.filling import fill_data_free, fill_second_order
from mode_core.quantization.hessians import GptqSettings
from mode_core.quantization.hqq import hqq_package
from mode_core.quantization.methods import METHODS, Method
from mode_core.quantization.placement import ORIGINALS, STORAGES, check_interface
from mode_core.quantization.plan import SIDES, make_plan
from mode_core.quantization.quantized_model import QuantizedModel
from mode_core.quantization.widths import GROUP_SIZE, PER_CHANNEL

if TYPE_CHECKING:
    from mode_core.models import LoadedModel
    from mode_core.samples import Sample

__all__ = ["METHODS", "GptqSettings", "Method", "QuantizationError", "QuantizedModel", "quantize_experts"]


def quantize_experts(
    loaded: LoadedModel,
    allocation: Allocation,
    method: str = "rtn",
    group_size: int = GROUP_SIZE,
    symmetric: bool = True,
    samples: Sequence[Sample] | None = None,
    progress: ProgressHook | None = None,
    cancel: Cancel | None = None,
    *,
    attention_bits: int | None = None,
    shared_bits: int | None = None,
    gptq: GptqSettings | None = None,
    storage: str = "values",
    originals: str = "memory",
) -> QuantizedModel:
    """Quantize every expert of `loaded` to its width in `allocation`, and put the result into the model.

    The model then computes with the values that the packed codes stand for; use it as a context manager, and
    the original weights are back afterwards, bit for bit:

        with quantize_experts(loaded, allocation) as quantized:
            scores = evaluate(loaded, samples)

    Width 16 leaves an expert untouched, width 0 leaves it out (its weights are zeros and take no bytes).

    Args:
        method: `rtn`, `hqq` (always with zero points, whatever `symmetric` says) or `gptq`.
        samples: what `gptq` looks at: calibration samples, not those that are evaluated.
        attention_bits, shared_bits: a width for all attention layers of the language model, and for all shared
            experts; None leaves them as they are (the paper's released code uses 4 for both). Routers, embeddings,
            norms, dense layers and the vision tower are never touched.
        gptq: how `gptq` looks at data; see `GptqSettings`.
        storage: `values` writes into the model's own weights; `packed` lets it compute from the codes, unpacking an
            expert each time it is used: the memory of the codes, at the price of time.
        originals: where the original weights wait meanwhile with storage `packed`: `memory`, or `disk` (a temporary
            folder), which is what makes the process smaller.

    Until the original is back no other thread gets the model's weights (`guard.exclusive`). A cancel or a failure puts
    the original back before it is raised.

    Memory: the packed codes and about twice one projection of one bank while it is worked on; with `values` the
    original weights of what is touched once more; with `gptq` Hessians of `GptqSettings.memory_bytes`. None of it grows
    with the number of samples.

    Raises:
        QuantizationError: the allocation's banks, number of experts or widths do not fit the model, both named; an
            unknown method, or one without the samples it needs; a model that is quantized already.
        QuantizerMissing: the optional package of the method is not installed.
        Cancelled: a stop was asked for.
    """
    _check(method, group_size, samples, storage, originals)
    plan = make_plan(loaded, allocation, attention_bits, shared_bits)
    if storage == "packed":
        for bank in loaded.banks.values():
            check_interface(bank)
    symmetric = symmetric and method != "hqq"
    quantized = QuantizedModel(loaded, allocation, method, group_size, symmetric, storage, originals)
    quantized.take()
    try:
        if method == "gptq":
            steps = len(SIDES) * len(loaded.banks) + len(plan.linears)
            fill_second_order(quantized, plan, samples, gptq or GptqSettings(), Reporter(progress, steps, cancel))
        else:
            steps = sum(len(bank.projections) for bank in loaded.banks.values()) + len(plan.linears)
            fill_data_free(quantized, plan, Reporter(progress, steps, cancel))
        quantized.put()
    except BaseException:
        quantized.restore()
        raise
    return quantized


def _check(method: str, group_size: int, samples: Sequence[Sample] | None, storage: str, originals: str) -> None:
    if method not in METHODS:
        raise QuantizationError(f"There is no quantizer {method!r} here; choose one of: {', '.join(METHODS)}.")
    if group_size != PER_CHANNEL and group_size < 1:
        raise QuantizationError(f"group_size must be a positive number, or -1 (per channel); got {group_size}.")
    if METHODS[method].needs_samples and not samples:
        raise QuantizationError(
            f"The quantizer {method!r} looks at what enters the experts; give it calibration samples (samples=…)."
        )
    if method == "hqq":
        hqq_package()
    for name, value, known in (("storage", storage, STORAGES), ("originals", originals, ORIGINALS)):
        if value not in known:
            raise QuantizationError(f"{name} must be one of {', '.join(known)}; got {value!r}.")
