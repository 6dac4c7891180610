"""The verbs `quantize` and `evaluate`: an allocation becomes packed weights, and what that costs is measured."""

from __future__ import annotations

import argparse
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from mode_core.cli import sample_options
from mode_core.cli.arguments import add_quantizer, read_quantizer
from mode_core.cli.sample_options import add_sample_options
from mode_core.cli.verbs import Result, chosen_allocation, load_for
from mode_core.jobs import ProgressHook
from mode_core.request import Quantizer
from mode_core.runs.run import Run

if TYPE_CHECKING:
    from mode_core.evaluation import Scores
    from mode_core.samples import SampleList


def add_quantize_arguments(parser: argparse.ArgumentParser, bundled_calibration: str) -> None:
    """What `quantize` can be told, beside run, allocation, model and grid."""
    add_quantizer(parser, "--samples", bundled_calibration)
    parser.add_argument(
        "--out", help="safetensors file for the packed codes, for evaluate --packed (default: only measure)"
    )


def add_evaluate_arguments(parser: argparse.ArgumentParser, bundled_samples: str, bundled_calibration: str) -> None:
    """What `evaluate` can be told, beside run, allocation, model and grid."""
    add_sample_options(parser, bundled_samples, "what to answer; with answers accuracy, without KL and agreement alone")
    parser.add_argument("--batch-size", type=int, default=32, help="samples per forward pass (default: 32)")
    parser.add_argument("--name", help="keep the scores in the run under this name")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print N answers that changed, side by side")
    add_quantizer(parser, "--calibration", bundled_calibration, with_choice=True)


def asked_quantizer(options: argparse.Namespace, run: Run) -> tuple[Quantizer, SampleList | None]:
    """The quantizer that was asked for, on the run's grid, and the samples it looks at (None: at none)."""
    quantizer = read_quantizer(options).fitted(run.measured())
    return quantizer, sample_options.looked_at(options, quantizer)


def quantize(options: argparse.Namespace, progress: ProgressHook, cancel: threading.Event) -> Result:
    """An allocation → packed codes, with predicted and measured bytes."""
    from mode_core.models import usable
    from mode_core.quantization import quantize_experts, rest_bytes

    run = Run.open(options.run)
    allocation, (quantizer, samples) = chosen_allocation(options, run), asked_quantizer(options, run)
    loaded = load_for(options, run)
    if samples is not None:
        samples = usable(loaded, samples, options.strict, cancel)
    rest = rest_bytes(loaded, quantizer.attention_bits, quantizer.shared_bits, **quantizer.grid)
    experts = quantizer.packed_bytes(run.measured(), allocation.bits)
    with quantize_experts(
        loaded, allocation, quantizer, samples=samples, progress=progress, cancel=cancel
    ) as quantized:
        if options.out:
            quantized.save_packed(options.out)
    result = {
        "quantizer": quantizer.method,
        "average_bits": allocation.average_bits,
        "predicted_bytes": experts,
        "measured_bytes": quantized.packed_bytes,
        "original_bytes": quantized.original_bytes,
        "whole_model_predicted_bytes": rest + experts,
        "whole_model_bytes": quantized.model_bytes,
        "written_to": options.out or "nowhere (give --out)",
    }
    if samples is not None:
        result |= sample_options.told(quantized.samples)
    if quantized.data_free:
        result["too_few_tokens"] = {
            bank: [f"{expert} ({quantized.tokens[bank, expert]} tokens)" for expert in experts_]
            for bank, experts_ in quantized.data_free.items()
        }
    return result


def evaluate(options: argparse.Namespace, progress: ProgressHook, cancel: threading.Event) -> Result:
    """Accuracy per task; of a quantized model also KL, agreement, and the original's accuracy beside its own."""
    from mode_core.evaluation import evaluate as score
    from mode_core.evaluation import record_reference
    from mode_core.models import usable
    from mode_core.quantization import load_packed, quantize_experts

    run = Run.open(options.run)
    samples = sample_options.read(options, options.samples, options.images, options.limit)
    loaded = load_for(options, run)
    samples = usable(loaded, samples, options.strict, cancel)
    common = {"progress": progress, "cancel": cancel, "batch_size": options.batch_size}
    if options.allocation is None and options.uniform is None and options.packed is None:
        return _kept(options, run, score(loaded, samples, **common)) | sample_options.told(samples)
    reference = record_reference(loaded, samples, **common)
    original = score(loaded, samples, **common)
    if options.packed is not None:
        putting = load_packed(loaded, options.packed)
        made = {"packed": options.packed}
    else:
        allocation, (quantizer, looked_at) = chosen_allocation(options, run), asked_quantizer(options, run)
        putting = quantize_experts(loaded, allocation, quantizer, samples=looked_at, progress=progress, cancel=cancel)
        what = options.allocation or f"uniform {options.uniform} bits"
        made = {"allocation": what, "average_bits": allocation.average_bits, "quantizer": quantizer.to_dict()}
        made |= {"request": allocation.settings["request"]} if "request" in allocation.settings else {}
    made |= {} if original.accuracy is None else {"original_accuracy": original.accuracy}
    with putting as quantized:
        scores = score(loaded, samples, reference=reference, **common)
    result = _kept(options, run, replace(scores, settings=dict(scores.settings) | made | {"made": time.time()}))
    result |= sample_options.told(samples)
    if quantized.samples is not None:
        result["quantizer_samples"] = sample_options.told(quantized.samples)
    if original.accuracy is not None:
        result["original_accuracy"] = original.accuracy
        result["accuracy_lost"] = _interval(original.interval("correct", other=scores))
    if options.show:
        result["answers_that_changed"] = _changed(original, scores, options.show) or "none"
    return result


def _kept(options: argparse.Namespace, run: Run, scores: Scores) -> Result:
    """The averages with their intervals; the scores are kept in the run where a name is given."""
    if options.name:
        run.save_evaluation(options.name, scores.to_dict())
    measured = {"correct": scores.accuracy, "kl": scores.kl, "agreement": scores.agreement}
    intervals = {m: _interval(scores.interval(m)) for m, value in measured.items() if value is not None}
    if scores.perplexity is not None:
        intervals["perplexity"] = _interval(scores.perplexity_interval())
    return scores.summary() | {"intervals_95": intervals}


def _interval(found: tuple[float, float, float]) -> str:
    mean, low, high = found
    return f"{mean:.4g} ({low:.4g} to {high:.4g})"


def _changed(original: Scores, scores: Scores, count: int) -> Result:
    """Questions with both answers, of at most `count` samples that are answered otherwise now."""
    from mode_core.evaluation import side_by_side

    rows = [row for row in side_by_side({"original": original, "quantized": scores}) if row.differs]
    return {row.id: f"{row.question!r}: {row.given['original']!r} → {row.given['quantized']!r}" for row in rows[:count]}
