"""The verb `compare`: every importance estimate at the same memory, measured with intervals, kept in a run."""

from __future__ import annotations

import argparse
import threading
from pathlib import Path

from mode_core.cli import sample_options
from mode_core.cli.arguments import add_quantizer, add_settings, command_of, read_quantizer, read_settings
from mode_core.cli.sample_options import add_sample_options
from mode_core.cli.verbs import load_for
from mode_core.comparison import ComparisonSettings, Evidence, fold_draws
from mode_core.jobs import ProgressHook
from mode_core.modalities import ALL
from mode_core.runs.run import Run

PLAIN = ComparisonSettings()
EXPERTS_ONLY = ("method", "group_size", "symmetric", "samples", "gptq")  # nothing but the experts is rounded here
ASKED = ("key_ratio", "signal", "vision_weight", "min_support", "widths")


def add_arguments(parser: argparse.ArgumentParser, bundled_samples: str, bundled_calibration: str) -> None:
    """What `compare` can be told, beside the model."""
    parser.add_argument(
        "--runs",
        required=True,
        nargs="+",
        metavar="RUN",
        help="runs of one model, each an independent draw of calibration samples; or one, whose folds are sub-sampled",
    )
    parser.add_argument("--draws", type=int, default=5, help="sub-samples made of a single run (default: 5)")
    parser.add_argument("--out", help="folder for the tables (default: evidence/ in the first run)")
    parser.add_argument("--work", help="folder for single measurements, to go on after a stop (default: OUT/measured)")
    add_sample_options(parser, bundled_samples, "items with answers")
    add_settings(parser, PLAIN, "what is compared")
    add_settings(parser, PLAIN.request, "what every method is asked with", ASKED)
    add_quantizer(parser, "--calibration", bundled_calibration, EXPERTS_ONLY, with_choice=True)


def run_compare(options: argparse.Namespace, progress: ProgressHook, cancel: threading.Event) -> dict[str, object]:
    """Runs and items → tables of evidence."""
    from mode_core.comparison.comparing import HALVES, compare_into
    from mode_core.models import usable

    runs = [Run.open(path) for path in options.runs]
    first = runs[0].measured()
    draws = [run.measured() for run in runs] if len(runs) > 1 else fold_draws(first, options.draws)
    request, quantizer = read_settings(PLAIN.request, options, shrinkage=0.0), read_quantizer(options).fitted(first)
    settings = read_settings(PLAIN, options, request=request, quantizer=quantizer)
    samples = sample_options.read(options, options.samples, options.images, options.limit)
    loaded = load_for(options, runs[0])
    samples = usable(loaded, samples, options.strict, cancel)
    out = Path(options.out or runs[0].path / "evidence")
    work = Path(options.work or out / "measured")
    left_out, kind = sample_options.told(samples), "runs" if len(runs) > 1 else HALVES
    info = {"command": command_of(options.parser, options), "calibration_draws": kind}
    info |= left_out if samples.errors else {}
    calibration = sample_options.looked_at(options, quantizer)
    evidence = compare_into(out, work, loaded, draws, samples, settings, calibration, info, progress, cancel)
    return {"written_to": str(out), **summary(evidence), **left_out}


def summary(evidence: Evidence) -> dict[str, object]:
    """KL on text and on picture items by method at the lowest budget asked, and how many measurements were made."""
    scores = evidence.scores
    lowest = scores["average_bits"].min()
    rows = scores[
        (scores["average_bits"] == lowest)
        & (scores["calibration"] == -1)
        & (scores["task"] == ALL)
        & (scores["metric"] == "kl")
    ]
    table = {
        f"{row.method} ({row.scope}, λ {row.shrinkage:g}), {row.modality}": (
            f"{row.value:.4f} [{row.low:.4f}, {row.high:.4f}]"
        )
        for row in rows.itertuples()
        if row.modality != ALL
    }
    counts = {key: evidence.info[key] for key in ("items_text", "items_vision", "draws", "allocations", "measured")}
    return counts | {f"KL to the original at {lowest:g} bits": table}
