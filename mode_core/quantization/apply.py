"""An allocation becomes weights: experts are quantized, packed, put into the model, and taken out again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from mode_core.allocation.records import Allocation
from mode_core.errors import PackedFileError, QuantizationError, QuantizerMissing
from mode_core.jobs import Cancel, ProgressHook, Reporter
from mode_core.quantization.filling import fill_data_free, fill_second_order
from mode_core.quantization.packed_file import read_packed
from mode_core.quantization.placement import ORIGINALS, STORAGES, check_interface
from mode_core.quantization.plan import SIDES, make_plan
from mode_core.quantization.quantized_model import QuantizedModel
from mode_core.quantization.quantizers import DATA_FREE
from mode_core.quantization.settings import GptqSettings, Quantizer
from mode_core.quantization.widths import GROUP_SIZE

if TYPE_CHECKING:
    from mode_core.models import LoadedModel
    from mode_core.samples import Sample


def quantize_experts(
    loaded: LoadedModel,
    allocation: Allocation,
    method: str | Quantizer = DATA_FREE,
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
        method: a name of `QUANTIZERS`, or a `Quantizer`, whose settings then count and none of those given beside it.
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
        SettingsError: settings that make no `Quantizer`.
        QuantizationError: the allocation's banks, number of experts or widths do not fit the model, both named; a
            quantizer without the samples it needs; a model that is quantized already.
        QuantizerMissing: the optional package of the method is not installed.
        Cancelled: a stop was asked for.
    """
    if isinstance(method, str):
        method = Quantizer(method, group_size, symmetric, attention_bits, shared_bits, gptq=gptq or GptqSettings())
    kind, grid = method.kind, method.grid
    quantizer = replace(method, **grid | {"symmetric": grid["symmetric"] and not kind.real_zeros})
    if kind.needs_samples and not samples:
        raise QuantizationError(
            f"The quantizer {kind.name!r} looks at what enters the experts; give it calibration samples (samples=…)."
        )
    if not kind.available:
        raise QuantizerMissing(kind.missing)
    _check_storage(loaded, storage, originals)
    plan = make_plan(loaded, allocation, quantizer)
    quantized = QuantizedModel(loaded, quantizer, storage, originals)
    quantized.take()
    try:
        if kind.needs_samples:
            steps = len(SIDES) * len(loaded.banks) + len(plan.linears)
            fill_second_order(quantized, plan, samples, Reporter(progress, steps, cancel))
        else:
            steps = sum(len(bank.projections) for bank in loaded.banks.values()) + len(plan.linears)
            fill_data_free(quantized, plan, Reporter(progress, steps, cancel))
        quantized.put()
    except BaseException:
        quantized.restore()
        raise
    return quantized


def load_packed(
    loaded: LoadedModel, path: str | Path, storage: str = "values", originals: str = "memory"
) -> QuantizedModel:
    """Put the codes of a file that `save_packed` wrote into the model that they were made from; nothing is computed.

    To be used, and with the same `storage` and `originals`, as what `quantize_experts` gives.

    Raises:
        PackedFileError: the file is missing, damaged, or of another model; the text names the first matrix.
        QuantizationError: an unknown storage, or a model that is quantized already.
    """
    _check_storage(loaded, storage, originals)
    kept = read_packed(path)
    shapes = {name: tuple(m.weight.shape) for name, m in loaded.model.named_modules() if type(m) is nn.Linear}
    for key, matrix in (kept.experts | kept.linears).items():
        name, expert, projection = key if isinstance(key, tuple) else (key, 0, "")
        bank = loaded.banks.get(name)
        if not projection:
            own = shapes.get(name)
        else:
            there = bank is not None and expert < bank.experts and projection in bank.projections
            own = tuple(bank.matrix(projection, expert).shape) if there else None
        if own != matrix.shape:
            what = f"{name}, expert {expert}, {projection}" if projection else name
            raise PackedFileError(
                f"{path} is of another model: it holds {what} of shape {matrix.shape}; {loaded.name} has "
                f"{f'shape {own}' if own else 'none'} there. Give the model that was quantized."
            )
    quantized = QuantizedModel(loaded, kept.quantizer, storage, originals)
    quantized.packed |= kept.experts
    quantized.linears |= kept.linears
    quantized.apply()
    return quantized


def _check_storage(loaded: LoadedModel, storage: str, originals: str) -> None:
    for name, value, known in (("storage", storage, STORAGES), ("originals", originals, ORIGINALS)):
        if value not in known:
            raise QuantizationError(f"{name} must be one of {', '.join(known)}; got {value!r}.")
    if storage == "packed":
        for bank in loaded.banks.values():
            check_interface(bank)
