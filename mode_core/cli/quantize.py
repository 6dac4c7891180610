"""The verbs `quantize` and `evaluate`: an allocation becomes packed weights, and what that costs is measured."""

from __future__ import annotations

import argparse
import threading
from typing import TYPE_CHECKING

import numpy as np

from mode_core.allocation import Allocation
from mode_core.cli.verbs import Result, chosen_allocation, load_for, measured, run_grid
from mode_core.jobs import ProgressHook
from mode_core.quantization.sizes import expert_bytes
from mode_core.quantization.widths import METHOD_NAMES, PAPER_BITS
from mode_core.runs.run import Run

if TYPE_CHECKING:
    from mode_core.evaluation import Scores


def add_quantizer_arguments(parser: argparse.ArgumentParser, samples_option: str, bundled_calibration: str) -> None:
    """How the weights are quantized; `samples_option` names the calibration samples for those that look at data."""
    group = parser.add_argument_group("how the weights are quantized")
    group.add_argument("--quantizer", choices=METHOD_NAMES, default="rtn", help="rtn (default), hqq or gptq")
    group.add_argument(
        samples_option,
        dest="quantizer_samples",
        default=bundled_calibration,
        help=f"calibration samples that gptq looks at (default: {bundled_calibration})",
    )
    group.add_argument("--quantizer-limit", type=int, metavar="N", help="use only the first N of them")
    group.add_argument(
        "--by-modality",
        action="store_true",
        help="gptq: text and key tokens count alike, redundant vision tokens not at all",
    )
    group.add_argument(
        "--attention-bits", type=int, help=f"width of attention (default: untouched; the paper's code: {PAPER_BITS})"
    )
    group.add_argument(
        "--shared-bits", type=int, help=f"width of shared experts (default: untouched; the paper's code: {PAPER_BITS})"
    )


def add_quantize_arguments(parser: argparse.ArgumentParser, bundled_calibration: str) -> None:
    """What `quantize` can be told, beside run, allocation, model and grid."""
    add_quantizer_arguments(parser, "--samples", bundled_calibration)
    parser.add_argument("--out", help="safetensors file for the packed codes (default: measure only)")


def add_evaluate_arguments(parser: argparse.ArgumentParser, bundled_samples: str, bundled_calibration: str) -> None:
    """What `evaluate` can be told, beside run, allocation, model and grid."""
    parser.add_argument(
        "--samples",
        default=bundled_samples,
        help=f"what to answer: with answers accuracy, without KL and agreement alone (default: {bundled_samples})",
    )
    parser.add_argument("--limit", type=int, help="use only the first N samples")
    parser.add_argument("--batch-size", type=int, default=32, help="samples per forward pass (default: 32)")
    parser.add_argument("--name", help="keep the scores in the run under this name")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print N answers that changed, side by side")
    add_quantizer_arguments(parser, "--calibration", bundled_calibration)


def quantizer_options(options: argparse.Namespace, run: Run) -> dict[str, object]:
    """The options as `quantize_experts` takes them."""
    from mode_core.quantization import METHODS, GptqSettings

    asked: dict[str, object] = {
        "method": options.quantizer,
        "attention_bits": options.attention_bits,
        "shared_bits": options.shared_bits,
        **run_grid(options, run),
    }
    if METHODS[options.quantizer].needs_samples:
        from mode_core.samples import read_samples

        asked["samples"] = read_samples(options.quantizer_samples)[: options.quantizer_limit]
        asked["gptq"] = GptqSettings(weighting="modality" if options.by_modality else "tokens")
    return asked


def quantize(options: argparse.Namespace, progress: ProgressHook, cancel: threading.Event) -> Result:
    """An allocation → packed codes, with predicted and measured bytes."""
    from mode_core.quantization import quantize_experts, rest_bytes

    run = Run.open(options.run)
    allocation, asked = chosen_allocation(options, run), quantizer_options(options, run)
    loaded = load_for(options, run)
    grid = (asked["group_size"], asked["symmetric"], asked["method"])
    rest = rest_bytes(loaded, options.attention_bits, options.shared_bits, *grid)
    experts = _predicted(run, allocation, grid)
    with quantize_experts(loaded, allocation, progress=progress, cancel=cancel, **asked) as quantized:
        if options.out:
            quantized.save_packed(options.out)
    result = {
        "quantizer": options.quantizer,
        "average_bits": allocation.average_bits,
        "predicted_bytes": experts,
        "measured_bytes": quantized.packed_bytes,
        "original_bytes": quantized.original_bytes,
        "whole_model_predicted_bytes": rest + experts,
        "whole_model_bytes": quantized.model_bytes,
        "written_to": options.out or "nowhere (give --out)",
    }
    if quantized.data_free:
        result["too_few_tokens"] = {
            bank: [f"{expert} ({quantized.tokens[bank, expert]} tokens)" for expert in experts_]
            for bank, experts_ in quantized.data_free.items()
        }
    return result


def _predicted(run: Run, allocation: Allocation, grid: tuple) -> int:
    """Bytes of all experts, from the run's shapes; an allocation per projection counts gate and up, and down."""
    total = 0
    for bank in measured(run):
        bits = np.asarray(allocation.bits[bank.name])
        columns = bits if bits.ndim == 2 else np.stack([bits, bits], axis=1)
        widths = np.unique(columns)
        sizes = expert_bytes(bank.shape, widths.tolist(), grid[0], grid[1], by_projection=True, method=grid[2])
        total += int(sum(sizes[np.searchsorted(widths, columns[:, side]), side].sum() for side in (0, 1)))
    return total


def evaluate(options: argparse.Namespace, progress: ProgressHook, cancel: threading.Event) -> Result:
    """Accuracy per task; of a quantized model also KL, agreement, and the original's accuracy beside its own."""
    from mode_core.evaluation import evaluate as score
    from mode_core.evaluation import record_reference
    from mode_core.quantization import quantize_experts
    from mode_core.samples import read_samples

    run = Run.open(options.run)
    loaded = load_for(options, run)
    samples = read_samples(options.samples)[: options.limit]
    common = {"progress": progress, "cancel": cancel, "batch_size": options.batch_size}
    if options.allocation is None and options.uniform is None:
        return _kept(options, run, score(loaded, samples, **common))
    allocation = chosen_allocation(options, run)
    reference = record_reference(loaded, samples, **common)
    original = score(loaded, samples, **common)
    asked = quantizer_options(options, run)
    with quantize_experts(loaded, allocation, progress=progress, cancel=cancel, **asked):
        scores = score(loaded, samples, reference=reference, **common)
    result = _kept(options, run, scores)
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
    return scores.summary() | {"intervals_95": intervals}


def _interval(found: tuple[float, float, float]) -> str:
    mean, low, high = found
    return f"{mean:.4g} ({low:.4g} to {high:.4g})"


def _changed(original: Scores, scores: Scores, count: int) -> Result:
    """Questions with both answers, of at most `count` samples that are answered otherwise now."""
    from mode_core.evaluation import side_by_side

    rows = [row for row in side_by_side({"original": original, "quantized": scores}) if row.differs]
    return {row.id: f"{row.question!r}: {row.given['original']!r} → {row.given['quantized']!r}" for row in rows[:count]}
