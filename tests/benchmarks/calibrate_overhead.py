"""What calibration costs beside a plain forward pass of the same batches.

    python -m tests.benchmarks.calibrate_overhead [MODEL SAMPLES] [--limit N] [--batch-size B] [--rounds R]

Prints a Markdown table, all rows measured in one process on the same encoded batches: the median of R rounds, the
rows taken in turn in every round, so that another load on the machine falls on all of them alike. Rounding the
weights, which is done once for any number of samples, is a row of its own.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from mode_core.calibration import SIGNALS, CalibrationSettings
from mode_core.calibration.probe import Probe
from mode_core.calibration.sensitivity import RoundedBank
from mode_core.calibration.sums import BankSums
from mode_core.models import PADDING, LoadedModel, load_model
from mode_core.samples import read_samples

BUNDLED = Path(__file__).resolve().parents[2] / "sample_data"
ALL = tuple(SIGNALS)
ROWS = {
    "frequencies": CalibrationSettings(sensitivity=False),
    "frequencies, all signals": CalibrationSettings(sensitivity=False, signals=ALL),
    "frequencies + sensitivity at 4 widths": CalibrationSettings(),
    "frequencies + sensitivity, all signals": CalibrationSettings(signals=ALL),
}


def probed(
    loaded: LoadedModel, rounded: dict[str, RoundedBank], settings: CalibrationSettings
) -> Callable[[list], None]:
    """A pass over the batches that sums everything; the weights were rounded beforehand."""
    sums = {name: BankSums(bank, rounded[name], settings) for name, bank in loaded.banks.items()}

    def work(batches: list) -> None:
        with Probe(loaded, settings.signals, lambda seen: sums[seen.bank.name].add(seen)) as probe:
            for encoded in batches:
                probe.run(encoded)

    return work


def plain(loaded: LoadedModel) -> Callable[[list], None]:
    """The model alone."""

    def work(batches: list) -> None:
        with torch.no_grad():
            for encoded in batches:
                loaded.model(**encoded.inputs, use_cache=False)

    return work


def timed(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    begun = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default=str(BUNDLED / "model"))
    parser.add_argument("samples", nargs="?", default=str(BUNDLED / "calibration"))
    parser.add_argument("--limit", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    loaded, samples = load_model(options.model), read_samples(options.samples)[: options.limit]
    size = options.batch_size
    batches = [loaded.encode(samples[first : first + size]) for first in range(0, len(samples), size)]
    tokens = sum(int((encoded.modality != PADDING).sum()) for encoded in batches)
    rounded: dict[str, RoundedBank] = {}
    paper = CalibrationSettings()
    once = timed(lambda: rounded.update({n: RoundedBank.of(bank, paper) for n, bank in loaded.banks.items()}))
    rows = {"plain forward": plain(loaded)} | {name: probed(loaded, rounded, s) for name, s in ROWS.items()}
    seconds = {name: [] for name in rows}
    for turn in range(options.rounds + 1):
        for name, work in rows.items():
            took = timed(lambda work=work: work(batches))
            seconds[name] += [took] if turn else []  # the first round only warms up
    print(f"{loaded.name}: {len(samples)} samples, {tokens:,} tokens, batches of {size}, median of {options.rounds}")
    print(f"rounds. {os.cpu_count()} cores ({platform.machine()}), torch {torch.__version__}, {loaded.device.type}.\n")
    print("| pass over the samples | seconds | × plain |\n|---|---:|---:|")
    base = statistics.median(seconds["plain forward"])
    for name, values in seconds.items():
        print(f"| {name} | {statistics.median(values):.3f} | {statistics.median(values) / base:.2f} |")
    print(f"| (once: rounding all experts to 4 widths) | {once:.3f} | |")


if __name__ == "__main__":
    main()
