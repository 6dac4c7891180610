"""The verbs of the command line: parsed options in, a plain dictionary of results out."""

from __future__ import annotations

import argparse
import threading
from collections import Counter
from pathlib import Path

import numpy as np

from mode_core import cli_logit_kl, cli_scale
from mode_core.allocation import Allocation, uniform_allocation
from mode_core.allocation import allocate as solve
from mode_core.importance import cost_table, support, support_summary
from mode_core.jobs import ProgressHook
from mode_core.quantization.sizes import expert_bytes
from mode_core.run import Run

Result = dict[str, object]


def _load(options: argparse.Namespace, run: Run | None = None):
    from mode_core.models import load_model

    source = options.model or (run.model_source if run else None)
    with cli_scale.loading_bars(shown=not options.quiet and not cli_scale.rank()):
        return load_model(source, device=options.device, dtype=options.dtype, **cli_scale.memory(options))


def _grid(options: argparse.Namespace, run: Run) -> dict[str, object]:
    """Group size and symmetry: what was asked for, else what the run's sensitivity was measured with."""
    settings = run.statistics.settings
    return {
        "group_size": options.group_size or settings["group_size"],
        "symmetric": not options.asymmetric and bool(settings["symmetric"]),
    }


def _sizes(run: Run, widths: tuple[int, ...], grid: dict) -> dict[str, np.ndarray]:
    return {bank.name: expert_bytes(bank.shape, widths, **grid) for bank in run.statistics}


def _chosen(options: argparse.Namespace, run: Run) -> Allocation:
    """The allocation that the options name: uniform, a file, or one kept in the run."""
    if options.uniform is not None:
        return uniform_allocation(
            {bank.name: np.zeros([bank.shape.experts, 1]) for bank in run.statistics},
            (options.uniform,),
            options.uniform,
        )
    return run_allocation(run, options.allocation)


def run_allocation(run: Run, name: str) -> Allocation:
    """An allocation by its name in the run, or from a JSON file."""
    kept = run.allocations()
    if name in kept:
        return kept[name]
    if not Path(name).is_file():
        raise ValueError(
            f"The run keeps no allocation {name!r}, and there is no such file. "
            f"Kept: {', '.join(kept) or 'none'}; make one: python -m mode_core allocate --run {run.path} --name …"
        )
    return Allocation.load(name)


def calibrate(options: argparse.Namespace, progress: ProgressHook, cancel: threading.Event) -> Result:
    """Samples and a model → a run; by several processes together where torchrun started them."""
    with cli_scale.processes(options):
        return _calibrate(options, progress, cancel)


def _calibrate(options: argparse.Namespace, progress: ProgressHook, cancel: threading.Event) -> Result:
    from mode_core.calibration import SIGNALS, CalibrationSettings
    from mode_core.calibration import calibrate as run_calibration
    from mode_core.samples import read_samples

    settings = CalibrationSettings(
        bits=tuple(options.measure_bits),
        group_size=options.group_size,
        symmetric=not options.asymmetric,
        sensitivity=not options.no_sensitivity,
        batch_size=options.batch_size,
        signals=tuple(SIGNALS) if options.signals == ["all"] else tuple(options.signals),
        exemplars=options.exemplars,
        gradients=options.gradients,
        hessian_probes=options.hessian_probes,
        seed=options.seed,
        **cli_scale.settings(options),
    )
    samples = read_samples(options.samples)[: options.limit]
    loaded = _load(options)
    kl_settings = cli_logit_kl.agreed(options, loaded, samples, settings)
    run = cli_scale.open_run(options)
    statistics = run_calibration(loaded, samples, settings, run=run, progress=progress, cancel=cancel)
    more = {}
    if kl_settings is not None and not cli_scale.rank():
        more["logit_kl"] = cli_logit_kl.add_to_run(
            options, run, loaded, samples, settings, kl_settings, progress, cancel
        )
    first = next(iter(statistics))
    return {
        "run": options.out,
        "model": loaded.name,
        "samples": len(statistics.samples),
        "banks": len(statistics.banks),
        "experts_per_bank": first.shape.experts,
        "text_tokens": int(first.text("tokens")),
        "vision_tokens": int(first.vision("tokens", statistics.signals[0]).sum()),
        **more,
        "next": f"python -m mode_core allocate --run {options.out} --average-bits 3 --name three",
    }


def allocate(options: argparse.Namespace, progress: ProgressHook, cancel: threading.Event) -> Result:
    """A run and a budget → an allocation, proven optimal."""
    if options.average_bits is not None and options.budget_mb is not None:
        raise ValueError("Give --average-bits or --budget-mb, not both.")
    run = Run.open(options.run)
    widths = tuple(sorted(options.bits))
    settings = run.statistics.settings
    grid = {"group_size": settings["group_size"], "symmetric": settings["symmetric"]}
    sizes = _sizes(run, widths, grid)
    costs = cost_table(
        run.statistics,
        method=options.method,
        key_ratio=options.key_ratio,
        signal=options.signal,
        vision_weight=options.vision_weight,
        bits=widths,
        min_support=options.min_support,
    )
    in_bytes = options.budget_mb is not None
    allocation = solve(
        costs,
        bits=widths,
        average_bits=None if in_bytes else options.average_bits or 3.0,
        budget_bytes=int(options.budget_mb * 1e6) if in_bytes else None,
        scope=options.scope,
        unit=options.unit,
        equality=options.equality,
        sizes=sizes,
    )
    if options.name:
        run.save_allocation(options.name, allocation)
    if options.out:
        allocation.save(options.out)
    counts = Counter(np.concatenate([bits.ravel() for bits in allocation.bits.values()]).tolist())
    return {
        "method": options.method,
        "average_bits": allocation.average_bits,
        "experts_at_each_width": {f"{width} bits": counts.get(width, 0) for width in widths},
        "predicted_damage": allocation.objective,
        "lower_bound": allocation.lower_bound,
        "proven_optimal": allocation.proven_optimal,
        "solver_seconds": allocation.seconds,
        "packed_bytes": allocation.bytes,
        "support": support_summary(support(run.statistics, options.key_ratio, options.signal, options.min_support)),
        "kept_as": options.name or options.out or "nowhere (give --name or --out)",
    }


def quantize(options: argparse.Namespace, progress: ProgressHook, cancel: threading.Event) -> Result:
    """An allocation → packed codes, with predicted and measured bytes."""
    from mode_core.quantization import quantize_experts

    run = Run.open(options.run)
    allocation, grid = _chosen(options, run), _grid(options, run)
    loaded = _load(options, run)
    with quantize_experts(loaded, allocation, progress=progress, cancel=cancel, **grid) as quantized:
        if options.out:
            quantized.save_packed(options.out)
        predicted = sum(
            int(expert_bytes(bank.shape, (width,), **grid)[0]) * int(count)
            for bank in run.statistics
            for width, count in zip(*np.unique(allocation.bits[bank.name], return_counts=True), strict=True)
        )
        return {
            "average_bits": allocation.average_bits,
            "predicted_bytes": predicted,
            "measured_bytes": quantized.packed_bytes,
            "original_bytes": quantized.original_bytes,
            "written_to": options.out or "nowhere (give --out)",
        }


def evaluate(options: argparse.Namespace, progress: ProgressHook, cancel: threading.Event) -> Result:
    """Accuracy per task, and KL to the original by modality where something was quantized."""
    from mode_core.evaluation import evaluate as score
    from mode_core.evaluation import record_reference
    from mode_core.quantization import quantize_experts
    from mode_core.samples import read_samples

    run = Run.open(options.run)
    loaded = _load(options, run)
    samples = read_samples(options.samples)[: options.limit]
    common = {"progress": progress, "cancel": cancel, "batch_size": options.batch_size}
    if options.allocation is None and options.uniform is None:
        scores = score(loaded, samples, **common)
    else:
        allocation = _chosen(options, run)
        reference = record_reference(loaded, samples, **common)
        with quantize_experts(loaded, allocation, **_grid(options, run)):
            scores = score(loaded, samples, reference=reference, **common)
    if options.name:
        run.save_evaluation(options.name, scores.to_dict())
    return scores.summary()


def export(options: argparse.Namespace, progress: ProgressHook, cancel: threading.Event) -> Result:
    """An allocation → files that other software loads."""
    from mode_core.export import TARGETS
    from mode_core.export import export as write

    run = Run.open(options.run)
    if options.target not in TARGETS:
        listed = "\n".join(f"  {name}: {target.title}" for name, target in TARGETS.items())
        raise ValueError(f"There is no export target {options.target!r}. Targets:\n{listed}")
    allocation = run_allocation(run, options.allocation)
    needs_model = TARGETS[options.target].needs_model
    written = write(
        options.target,
        allocation,
        options.out,
        run=run,
        loaded=_load(options, run) if needs_model else None,
        progress=progress,
        cancel=cancel,
        **_grid(options, run),
    )
    return {"target": options.target, "files": [str(path) for path in written.files], "folder": options.out}
