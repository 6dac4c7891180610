"""The command line: one verb a step, from samples to exported bits.

    python -m mode_core rotate    --out models/rotated          (the same answers, easier to round)
    python -m mode_core calibrate --out runs/mine
    python -m mode_core allocate  --run runs/mine --average-bits 3 --name three
    python -m mode_core evaluate  --run runs/mine --allocation three
    python -m mode_core check     --run runs/mine
    python -m mode_core compare   --runs runs/mine runs/other
    python -m mode_core export    --run runs/mine --allocation three --target table --out exports/three
    python -m mode_core run exports/three/recipe.yaml --run runs/again --out exports/again
    python -m mode_core push exports/three --to owner/name
    torchrun --nproc-per-node 2 -m mode_core calibrate --out runs/mine     (several processes share the samples)

Progress goes to standard error, results to standard output (as JSON with `--json`), and every verb ends by
saying how long it took and how much memory it held at its peak. Exit codes: 0 done, 1 refused or failed with
the reason in words, 2 wrong usage, 130 stopped by the person.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from mode_core import bundled
from mode_core.calibration.settings import CalibrationSettings
from mode_core.cli import allocate as cli_allocate
from mode_core.cli import check as cli_check
from mode_core.cli import compare as cli_compare
from mode_core.cli import export as cli_export
from mode_core.cli import logit_kl as cli_logit_kl
from mode_core.cli import long_work
from mode_core.cli import publishing as cli_publishing
from mode_core.cli import quantize as cli_quantize
from mode_core.cli import rotate as cli_rotate
from mode_core.cli import verbs as verbs
from mode_core.cli.arguments import add_settings
from mode_core.cli.option_values import check_options
from mode_core.cli.report import BarHook, Meter, print_result
from mode_core.cli.sample_options import add_sample_options
from mode_core.errors import ModeError, in_words
from mode_core.jobs import Cancelled


def _shown(path: Path) -> str:
    """A default path as a person in the repo's folder would type it."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _model_argument(parser: argparse.ArgumentParser, default: str | None) -> None:
    parser.add_argument(
        "--model",
        default=default,
        help="model folder or hub id" + (f" (default: {default})" if default else " (default: the run's own)"),
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto (default)")
    parser.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run Python code that comes with the model; only for models whose code you have read",
    )
    parser.add_argument("--dtype", default="auto", help="auto (as stored, default), float32, bfloat16 or float16")


def _calibrate_arguments(parser: argparse.ArgumentParser) -> None:
    _model_argument(parser, _shown(bundled.MODEL))
    parser.add_argument("--out", required=True, help="folder of the new run")
    add_sample_options(parser, _shown(bundled.CALIBRATION))
    parser.add_argument(
        "--balance",
        type=int,
        metavar="N",
        help="take those N of the samples that reach most experts, found by a pass over all of them (or of --limit)",
    )
    parser.add_argument(
        "--anchor",
        action=argparse.BooleanOptionalAction,
        help="measure on a few samples what every expert at one width does to the answers, so that predicted damage is "
        "in nats: one pass for every width (default: where the model is small)",
    )
    add_settings(parser, CalibrationSettings(), "what is measured, and how")
    cli_logit_kl.add_arguments(parser)
    long_work.add_arguments(parser)


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; every verb has `--help`."""
    parser = argparse.ArgumentParser(
        prog="python -m mode_core",
        description="Per-expert bit-widths for Mixture-of-Experts multimodal models (MODE, arXiv 2606.17118).",
        epilog="Start with: python -m mode_core calibrate --out runs/first",
    )
    sub = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, run, summary: str) -> argparse.ArgumentParser:
        added = sub.add_parser(name, help=summary, description=summary)
        added.add_argument("--json", action="store_true", help="print the result as one JSON object")
        added.add_argument("--quiet", action="store_true", help="no progress bar")
        added.set_defaults(run_verb=run, parser=added)
        return added

    calibrate = verb("calibrate", verbs.calibrate, "Run the model once over image-text samples; keep a run.")
    _calibrate_arguments(calibrate)

    allocate = verb("allocate", cli_allocate.allocate, "Solve for every expert's bits under a budget; no model needed.")
    allocate.add_argument("--run", required=True, help="folder of a run")
    allocate.add_argument("--name", help="keep the allocation in the run under this name")
    allocate.add_argument("--out", help="write the allocation to this JSON file")
    cli_allocate.add_arguments(allocate)

    quantize = verb(
        "quantize",
        cli_quantize.quantize,
        "Quantize the experts to an allocation; write the packed codes, measure bytes.",
    )
    evaluate = verb(
        "evaluate",
        cli_quantize.evaluate,
        "Accuracy per task and KL to the original, for an allocation or a uniform width.",
    )
    for added, needed in ((quantize, True), (evaluate, False)):
        added.add_argument("--run", required=True, help="folder of a run")
        which = added.add_mutually_exclusive_group(required=needed)
        which.add_argument("--allocation", help="name in the run, or a JSON file")
        which.add_argument("--uniform", type=int, metavar="BITS", help="the same bits for every expert")
        _model_argument(added, None)
        if added is evaluate:
            which.add_argument("--packed", metavar="FILE", help="the packed codes that quantize --out wrote")
    cli_quantize.add_quantize_arguments(quantize, _shown(bundled.CALIBRATION))
    cli_quantize.add_evaluate_arguments(evaluate, _shown(bundled.EVALUATION), _shown(bundled.CALIBRATION))

    show = verb("show", verbs.show, "What a run keeps under a name: allocations and evaluations, whoever made them.")
    show.add_argument("--run", required=True, help="folder of a run")

    check = verb(
        "check", cli_check.run_check, "Which estimates come true on this model, measured on groups of experts."
    )
    cli_check.add_arguments(check, _shown(bundled.EVALUATION))
    _model_argument(check, None)

    compare = verb(
        "compare", cli_compare.run_compare, "Every importance estimate at the same memory, measured with intervals."
    )
    cli_compare.add_arguments(compare, _shown(bundled.EVALUATION), _shown(bundled.CALIBRATION))
    _model_argument(compare, None)

    export = verb("export", cli_export.export, "Write an allocation in a form that other software loads.")
    cli_export.add_export_arguments(export, _shown(bundled.CALIBRATION))
    _model_argument(export, None)

    cli_export.add_import_arguments(
        verb(
            "import", cli_export.import_released, "Frequency and sensitivity JSON of the paper's released code → a run."
        )
    )
    rotate = verb("rotate", cli_rotate.rotate, "Write a model whose outliers are spread by a rotation; same answers.")
    _model_argument(rotate, _shown(bundled.MODEL))
    cli_rotate.add_rotate_arguments(rotate, _shown(bundled.CALIBRATION))
    repeat = verb("run", cli_publishing.run, "Carry out a recipe.yaml: calibrate, allocate and export as it says.")
    cli_publishing.add_run_arguments(repeat)
    push = verb("push", cli_publishing.push, "Upload an export to the hub, private unless asked otherwise.")
    cli_publishing.add_push_arguments(push)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    options = build_parser().parse_args(arguments)
    cancel = threading.Event()
    before = {which: signal.signal(which, lambda *_: cancel.set()) for which in (signal.SIGINT, signal.SIGTERM)}
    try:
        check_options(options)
        with Meter() as meter, BarHook(options.verb, quiet=options.quiet or bool(long_work.rank())) as progress:
            result = options.run_verb(options, progress, cancel)
    except Cancelled as stopped:
        print(f"\nStopped. {stopped}", file=sys.stderr)
        return 130
    except (ModeError, OSError) as refused:  # every refusal of mode_core is one of these, with its reason
        print(f"\n{options.verb}: {in_words(refused)}", file=sys.stderr)
        return 1
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
    if long_work.rank():  # one of several processes prints
        return 0
    result["cost"] = meter.result()
    try:
        print(json.dumps(result, indent=1, default=str)) if options.json else print_result(options.verb, result)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has enough (`… | head`); nothing is flushed to it at the end either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
