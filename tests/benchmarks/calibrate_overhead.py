"""What calibration costs beside a plain forward pass of the same batches.

    python -m tests.benchmarks.calibrate_overhead [MODEL SAMPLES] [--limit N] [--batch-size B] [--rounds R]
    python -m tests.benchmarks.calibrate_overhead --large      one layer of the shape of Qwen3-VL-30B-A3B instead

Prints a Markdown table, all rows measured in one process on the same encoded batches: the median of R rounds, the rows
taken in turn in every round, so that another load on the machine falls on all of them alike. On a CPU, seconds are
those that the process itself computed (one thread), which other loads hardly touch. Attention runs through the model's
own fast kernel (sdpa) in all rows. Searching for the scales of the rounded weights, which is done once for any number
of samples, is a row of its own.
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
from mode_core.calibration.exemplars import ExemplarSums
from mode_core.calibration.rounding import BankGrids
from mode_core.calibration.sensitivity import RoundedBank
from mode_core.calibration.sums import BankSums, Places
from mode_core.models import PADDING, LoadedModel, load_model
from mode_core.probing.probe import Probe
from mode_core.samples import read_samples

BUNDLED = Path(__file__).resolve().parents[2] / "sample_data"
ALL = tuple(SIGNALS)
COUNTED = {
    "frequencies": CalibrationSettings(sensitivity=False, exemplars=0),
    "frequencies, all signals": CalibrationSettings(sensitivity=False, signals=ALL, exemplars=0),
    "frequencies, exemplars": CalibrationSettings(sensitivity=False),
}
FELT = {
    "frequencies + sensitivity at 3 widths": CalibrationSettings(bits=(2, 3, 4), exemplars=0),
    "frequencies + sensitivity, all signals": CalibrationSettings(bits=(2, 3, 4), signals=ALL, exemplars=0),
}


def probed(
    loaded: LoadedModel, rounded: dict[str, RoundedBank], settings: CalibrationSettings
) -> Callable[[list], None]:
    """A pass over the batches that sums everything; the weights were rounded beforehand."""
    places, exemplars = Places(settings.signals), ExemplarSums(loaded, settings.exemplars)
    sums = {name: BankSums(bank, rounded.get(name), settings, places) for name, bank in loaded.banks.items()}

    def observe(seen) -> None:
        exemplars.observe(seen)
        sums[seen.bank.name].add(seen)

    def work(batches: list) -> None:
        with Probe(loaded, settings.signals, observe) as probe:
            for encoded in batches:
                probe.run(encoded)
        for one in sums.values():
            one.flush()

    return work


def plain(loaded: LoadedModel) -> Callable[[list], None]:
    """The model alone."""

    def work(batches: list) -> None:
        with torch.no_grad():
            for encoded in batches:
                loaded.model(**encoded.inputs, use_cache=False)

    return work


def timed(work: Callable[[], object]) -> float:
    """Seconds of one call: computed by this process on a CPU, passed on a GPU."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    begun = clock()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - begun


def one_large_layer(seed: int = 0, **changes: int) -> LoadedModel:
    """The bundled model with a language model of one layer of the large shape, random weights, in bfloat16; `changes`
    are of its configuration."""
    from mode_core.models import find_banks
    from tests.benchmarks.large_model import configuration

    bundled = load_model(BUNDLED / "model")
    config = type(bundled.model.config).from_dict(configuration(1, **changes))
    torch.manual_seed(seed)
    torch.set_default_dtype(torch.bfloat16)
    model = type(bundled.model)(config).eval().requires_grad_(False)
    torch.set_default_dtype(torch.float32)
    names = (find_banks(model), "made up", "one layer of Qwen3-VL-30B-A3B's shape", "none")
    return LoadedModel(model, bundled.processor, *names, vision_ids=bundled.vision_ids)


def unrounded(loaded: LoadedModel) -> dict[str, RoundedBank]:
    """Banks of which only frequencies are wanted: no scales are searched for."""
    return {
        name: RoundedBank(bank, COUNTED["frequencies"], BankGrids(torch.zeros(0), torch.zeros(0)))
        for name, bank in loaded.banks.items()
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default=str(BUNDLED / "model"))
    parser.add_argument("samples", nargs="?", default=str(BUNDLED / "calibration"))
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--limit", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    loaded = one_large_layer() if options.large else load_model(options.model)
    samples, size = read_samples(options.samples)[: options.limit], options.batch_size
    batches = [loaded.encode(samples[first : first + size]) for first in range(0, len(samples), size)]
    tokens = sum(int((encoded.modality != PADDING).sum()) for encoded in batches)
    settings, once, rounded = dict(COUNTED), None, unrounded(loaded)
    if not options.large:
        settings |= FELT
        widths = FELT["frequencies + sensitivity at 3 widths"]
        once = timed(lambda: rounded.update({n: RoundedBank.of(bank, widths) for n, bank in loaded.banks.items()}))
    rows = {"plain forward": plain(loaded)} | {name: probed(loaded, rounded, s) for name, s in settings.items()}
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
    if once is not None:
        print(f"| (once: scales of all experts at 3 widths) | {once:.3f} | |")


if __name__ == "__main__":
    main()
