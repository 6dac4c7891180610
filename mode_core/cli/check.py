"""The verb `check`: which estimates come true on this model, measured on random groups of experts, kept in the run."""

from __future__ import annotations

import argparse
import sys
import threading
from typing import Any

from mode_core.cli import sample_options
from mode_core.cli.arguments import add_settings, command_of, read_settings
from mode_core.cli.sample_options import add_sample_options
from mode_core.cli.verbs import load_for
from mode_core.comparison.settings import CheckSettings
from mode_core.jobs import ProgressHook
from mode_core.modalities import ALL
from mode_core.prediction import Check
from mode_core.runs.run import CHECK_FILE, Run

SAMPLES = 64
PLAIN = CheckSettings()


def add_arguments(parser: argparse.ArgumentParser, bundled_samples: str) -> None:
    """What `check` can be told, beside the model."""
    parser.add_argument("--run", required=True, help="folder of a run")
    add_sample_options(parser, bundled_samples, "better not those of the calibration, answers not needed", SAMPLES)
    parser.add_argument("--cost", action="store_true", help="only say what it would cost")
    add_settings(parser, PLAIN, "what is measured")


def run_check(options: argparse.Namespace, progress: ProgressHook, cancel: threading.Event) -> dict[str, Any]:
    """A run and samples → which estimates come true. Says the cost first; a check that was stopped goes on."""
    from mode_core.comparison import check_cost, check_run
    from mode_core.models import usable

    run, settings = Run.open(options.run), read_settings(PLAIN, options)
    statistics = run.measured()
    samples = sample_options.read(options, options.samples, options.images, options.limit)
    loaded = load_for(options, run)
    samples = usable(loaded, samples, options.strict, cancel)
    cost = check_cost(loaded, samples, statistics, settings)
    if options.cost:
        return {"cost of a check": str(cost), "samples": len(samples)}
    if not options.quiet:
        print(f"check: {cost}; it can be stopped, and goes on from there", file=sys.stderr)
    told = {"command": command_of(options.parser, options)}
    found = check_run(run, loaded, samples, settings, progress, cancel, told)
    return {"written_to": str(run.path / CHECK_FILE), **summary(found), **sample_options.told(samples)}


def summary(found: Check) -> dict[str, Any]:
    """Every method's correlation by kind of sample, the trials, and the choice: plain values for a table or JSON."""
    ranked: dict[str, str] = {}
    for one in found.rankings:
        own = f"{one.modality} {one.spearman:.2f} [{one.low:.2f}, {one.high:.2f}]"
        ranked[one.method] = "; ".join(filter(None, (ranked.get(one.method), own)))
    tried = {
        f"{trial.method} ({trial.scope}, λ {trial.shrinkage:g}) at {trial.average_bits:g} bits": (
            f"KL {trial.kl[ALL]:.4g}, {trial.ratio:.2f} [{trial.low:.2f}, {trial.high:.2f}] times uniform's"
        )
        for trial in found.trials
    }
    choice = f"{found.choice.method}, scope {found.choice.scope}, shrinkage {found.choice.shrinkage:g}"
    return {
        "samples": dict(found.info["samples"]),
        "seconds": found.info["seconds"],
        "rank correlation of predicted and measured damage": ranked,
        "allocations measured": tried,
        "choice": choice,
        "why": found.choice.why,
    }
