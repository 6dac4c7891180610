"""The verbs of the command line: parsed options in, a plain dictionary of results out."""

from __future__ import annotations

import argparse
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mode_core.allocation import Allocation, uniform_allocation
from mode_core.cli import logit_kl as cli_logit_kl
from mode_core.cli import long_work, sample_options
from mode_core.cli.arguments import read_settings
from mode_core.errors import AllocationError, ScoresError, SettingsError
from mode_core.importance import coverage_sentences
from mode_core.jobs import ProgressHook
from mode_core.runs.run import ANCHOR_FILE, Run

if TYPE_CHECKING:
    from mode_core.calibration import CalibrationSettings
    from mode_core.models import LoadedModel
    from mode_core.samples import SampleList

Result = dict[str, object]


def load_for(options: argparse.Namespace, run: Run | None = None):
    """The model that the options name, else the run's own."""
    from mode_core.models import load_model
    from mode_core.models.weight_loading import loading_bars

    source = options.model or (run.model_source if run else None)
    with loading_bars(shown=not options.quiet and not long_work.rank()):
        trusted = {"trust_remote_code": getattr(options, "trust_remote_code", False)}
        return load_model(source, device=options.device, dtype=options.dtype, **trusted, **long_work.memory(options))


def chosen_allocation(options: argparse.Namespace, run: Run) -> Allocation:
    """The allocation that the options name: uniform, a file, or one kept in the run."""
    if options.uniform is not None:
        return uniform_allocation(
            {bank.name: np.zeros([bank.shape.experts, 1]) for bank in run.measured()},
            (options.uniform,),
            options.uniform,
        )
    return run_allocation(run, options.allocation)


def run_allocation(run: Run, name: str) -> Allocation:
    """An allocation by its name in the run, or from a JSON file."""
    damaged: dict[str, str] = {}
    kept = run.allocations(damaged)
    if name in kept:
        return kept[name]
    if name in damaged:
        raise AllocationError(damaged[name])
    if not Path(name).is_file():
        raise SettingsError(
            f"The run keeps no allocation {name!r}, and there is no such file. "
            f"Kept: {', '.join(kept) or 'none'}; make one: python -m mode_core allocate --run {run.path} --name …"
        )
    return Allocation.load(name)


def show(options: argparse.Namespace, progress: ProgressHook, cancel: threading.Event) -> Result:
    """What a run holds under a name, whether the command line or the dashboard made it."""
    from mode_core.evaluation import Scores

    run, damaged = Run.open(options.run), {}
    allocations = {
        name: f"{one.method or 'uniform'}, {one.average_bits:.4g} bits on average, scope {one.scope}, unit {one.unit}"
        for name, one in run.allocations(damaged).items()
    }
    evaluations = {}
    for name, record in run.evaluations(damaged).items():
        try:
            evaluations[name] = Scores.from_dict(record, f"The evaluation {name!r}").summary()
        except ScoresError as refused:
            damaged[name] = str(refused)
    found = {"state": run.state, "allocations": allocations or "none", "evaluations": evaluations or "none"}
    return found | ({"damaged": damaged} if damaged else {})


def calibrate(options: argparse.Namespace, progress: ProgressHook, cancel: threading.Event) -> Result:
    """Samples and a model → a run; by several processes together where torchrun started them."""
    with long_work.processes(options):
        return _calibrate(options, progress, cancel)


def _with_gradients(
    settings: CalibrationSettings, options: argparse.Namespace, loaded: LoadedModel
) -> tuple[CalibrationSettings, str]:
    """The settings with gradients on where nobody said and memory allows, and what is told of it ("": it was said)."""
    from mode_core.calibration.gradients import gradients_unasked

    if options.gradients is not None or not settings.sensitivity:
        return settings, ""
    started = options.resume and (Path(options.out) / "run.json").is_file()
    begun = Run(options.out).info.get("settings", {}) if started else {}
    if begun and not begun.get("gradients"):
        return settings, "not measured, as the run was begun"
    if not begun and long_work.processes_at_once() > 1:
        return settings, "not measured by several processes unless all are told to: --gradients"
    if not begun and not gradients_unasked(loaded):
        return settings, "not measured: they need the model in memory and as much again; --gradients insists"
    told = "measured, for the best estimates below 4 bits, in about five times the time (--no-gradients: without)"
    if not options.quiet and not long_work.rank():
        print(f"Gradients are {told}.", file=sys.stderr)
    return replace(settings, gradients=True), told


def _balanced(
    samples: SampleList,
    options: argparse.Namespace,
    loaded: LoadedModel,
    progress: ProgressHook,
    cancel: threading.Event,
) -> tuple[SampleList, Result]:
    """With --balance so many of the samples, and what they reach; else all."""
    from mode_core.calibration.balance import balanced

    if options.balance is None:
        return samples, {}
    if long_work.processes_at_once() > 1:
        raise SettingsError("--balance is chosen by one process; leave it out, or start without torchrun.")
    return balanced(loaded, samples, options.balance, options.draw_seed, progress, cancel, options.strict)


def _calibrate(options: argparse.Namespace, progress: ProgressHook, cancel: threading.Event) -> Result:
    from mode_core.calibration import CalibrationSettings, LogitKLSettings
    from mode_core.calibration import calibrate as run_calibration
    from mode_core.calibration.logit_kl import add_logit_kl
    from mode_core.calibration.measurement import token_counts
    from mode_core.comparison.anchoring import anchored_unasked, measure_anchor

    settings = read_settings(CalibrationSettings(), options)
    kl_settings = read_settings(LogitKLSettings(), options, signal=settings.signals[0]) if options.logit_kl else None
    samples = sample_options.read(options, options.samples, options.images, options.limit)
    loaded = load_for(options)
    loaded.check_template()
    samples, reach = _balanced(samples, options, loaded, progress, cancel)
    settings, why = _with_gradients(settings, options, loaded)
    if kl_settings is not None:
        cli_logit_kl.check_agreed(options, loaded, samples, settings.bits, kl_settings)
    if settings.own_answers and not options.quiet and not long_work.rank():
        print(settings.answering_cost(len(samples)), file=sys.stderr)
    more: Result = {"balance": reach} if reach else {}
    with long_work.open_run(options) as run:
        statistics = run_calibration(loaded, samples, settings, run, progress, cancel, options.strict)
        known = set(statistics.samples)
        used = [sample for sample in samples if sample.id in known]
        if kl_settings is not None and not long_work.rank():
            few = used[: options.logit_kl_samples]
            more["logit_kl"] = add_logit_kl(run, loaded, few, settings, kl_settings, progress, cancel)
        if not long_work.rank() and (anchored_unasked(loaded) if options.anchor is None else options.anchor):
            measure_anchor(loaded, statistics, used, progress=progress, cancel=cancel).save(run.path / ANCHOR_FILE)
            more["anchor"] = "measured: predicted damage is in nats"
    info = Run(options.out).info if not long_work.rank() else {}
    first, tokens = next(iter(statistics)), token_counts(statistics)
    return {
        "run": options.out,
        "model": loaded.name,
        "samples": len(statistics.samples),
        **sample_options.told(samples, info.get("refused", [])),
        "banks": len(statistics.banks),
        "experts_per_bank": first.shape.experts,
        **{f"{kind}_tokens": count or f"no {kind} tokens" for kind, count in tokens.items()},
        **{key: info[key] for key in ("video_tokens",) if key in info},
        **({"gradients": why} if why else {}),
        **({"coverage": told} if (told := coverage_sentences(statistics)) else {}),
        **more,
        "next": f"python -m mode_core allocate --run {options.out} --average-bits 3 --name three",
    }
