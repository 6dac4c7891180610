"""The verb `compare`: every importance estimate at the same memory, measured with intervals, kept in a run."""

from __future__ import annotations

import argparse
import shlex
import threading
from collections.abc import Sequence
from pathlib import Path

from mode_core.cli.verbs import load_for, measured
from mode_core.comparison import ComparisonSettings, Evidence, compare, fold_draws
from mode_core.comparison.settings import AVERAGE_BITS
from mode_core.errors import SettingsError
from mode_core.jobs import ProgressHook
from mode_core.quantization.widths import GROUP_SIZE
from mode_core.runs.run import Run
from mode_core.samples import Sample, read_samples


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
    parser.add_argument("--samples", default=bundled_samples, help=f"items with answers (default: {bundled_samples})")
    parser.add_argument("--limit", type=int, help="only N items, from all tasks in turn")
    parser.add_argument("--methods", nargs="+", default=[], help="importance estimates (default: all that can be)")
    parser.add_argument("--average-bits", type=float, nargs="+", default=list(AVERAGE_BITS), help="budgets")
    parser.add_argument("--bits", type=int, nargs="+", default=[1, 2, 3, 4], help="allowed widths (default: 1 2 3 4)")
    parser.add_argument("--quantizer", default="rtn", help="how weights are rounded (default: rtn)")
    parser.add_argument(
        "--calibration",
        default=bundled_calibration,
        help=f"samples for quantizers that look at data (default: {bundled_calibration})",
    )
    parser.add_argument(
        "--truth-bits",
        type=int,
        nargs="*",
        default=[2, 1],
        help="widths at which every expert is also quantized alone (default: 2 1; nothing: not at all)",
    )
    parser.add_argument("--key-ratio", type=float, default=0.20, help="share of vision tokens kept as key tokens")
    parser.add_argument("--batch-size", type=int, default=64, help="items per forward pass (default: 64)")
    parser.add_argument("--resamples", type=int, default=2000, help="of the bootstrap (default: 2000)")


def over_tasks(samples: Sequence[Sample], limit: int | None) -> list[Sample]:
    """At most `limit` samples, taken from the tasks in turn, in their given order; all without a limit."""
    if limit is None:
        return list(samples)
    if limit < 1:
        raise SettingsError(f"--limit must be at least 1; got {limit}.")
    place_in_task: dict[str | None, int] = {}
    turn = []
    for sample in samples:
        turn.append(place_in_task.get(sample.task, 0))
        place_in_task[sample.task] = turn[-1] + 1
    chosen = sorted(range(len(samples)), key=lambda place: (turn[place], place))[:limit]
    return [samples[place] for place in sorted(chosen)]


def run_compare(options: argparse.Namespace, progress: ProgressHook, cancel: threading.Event) -> dict[str, object]:
    """Runs and items → tables of evidence."""
    runs = [Run.open(path) for path in options.runs]
    first = measured(runs[0])
    draws = [measured(run) for run in runs] if len(runs) > 1 else fold_draws(first, options.draws)
    settings = ComparisonSettings(
        methods=tuple(options.methods),
        average_bits=tuple(options.average_bits),
        widths=tuple(sorted(options.bits)),
        quantizer=options.quantizer,
        group_size=first.settings.get("group_size", GROUP_SIZE),
        symmetric=first.settings.get("symmetric", True),
        truth_bits=tuple(options.truth_bits),
        key_ratio=options.key_ratio,
        batch_size=options.batch_size,
        resamples=options.resamples,
    )
    loaded = load_for(options, runs[0])
    samples = over_tasks(read_samples(options.samples), options.limit)
    out = Path(options.out or runs[0].path / "evidence")
    work = Path(options.work or out / "measured")
    info = {"command": command_line(options), "calibration_draws": "runs" if len(runs) > 1 else "half of the folds"}
    calibration = None if options.quantizer == "rtn" else read_samples(options.calibration)
    evidence = compare(loaded, draws, samples, settings, work, calibration, info, progress, cancel)
    evidence.save(out)
    return {"written_to": str(out), **summary(evidence)}


def command_line(options: argparse.Namespace) -> str:
    """The command that these options stand for, without what is on its default or only shapes the output."""
    words = ["python", "-m", "mode_core", "compare"]
    for name in ("runs", "model", "samples", "limit", "methods", "average_bits", "bits", "quantizer", "truth_bits"):
        value = getattr(options, name)
        if value not in (None, []) or name == "truth_bits":
            values = value if isinstance(value, list) else [value]
            words += ["--" + name.replace("_", "-"), *(f"{v:g}" if isinstance(v, float) else str(v) for v in values)]
    return shlex.join([*words, "--key-ratio", f"{options.key_ratio:g}", "--dtype", options.dtype])


def summary(evidence: Evidence) -> dict[str, object]:
    """KL on text and on picture items by method at the lowest budget asked, and how many measurements were made."""
    scores = evidence.scores
    lowest = scores["average_bits"].min()
    rows = scores[
        (scores["average_bits"] == lowest)
        & (scores["calibration"] == -1)
        & (scores["task"] == "all")
        & (scores["metric"] == "kl")
    ]
    table = {
        f"{row.method} ({row.scope}), {row.modality}": f"{row.value:.4f} [{row.low:.4f}, {row.high:.4f}]"
        for row in rows.itertuples()
        if row.modality != "all"
    }
    counts = {key: evidence.info[key] for key in ("items_text", "items_vision", "draws", "allocations", "measured")}
    return counts | {f"KL to the original at {lowest:g} bits": table}
