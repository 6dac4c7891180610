"""What the library does on a GPU, beside the least that the GPU needs for it; in at most ten minutes.

    python -m tests.benchmarks.gpu [--experts 128] [--limit 16] [--device cuda]

First the unit tests of calibration and quantization on that machine, then one layer of the shape of Qwen3-VL-30B-A3B
with random weights: a plain pass, frequencies, sensitivity at three widths, and rounding all experts by rtn and gptq. A
floor is the larger of two times: bytes that must move over the rate of a copy measured here, and operations over the
rate of a matrix product measured here. Prints a Markdown table with the peak of the device's memory. Without a GPU it
says so and ends, unless `--device cpu` asks for a rehearsal.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from mode_core.calibration.sensitivity import RoundedBank
from mode_core.models import PADDING, LoadedModel
from mode_core.quantization import quantize_experts
from mode_core.quantization.settings import Quantizer
from mode_core.samples import read_samples
from sample_data.measure import uniform
from tests.benchmarks.calibrate_overhead import BUNDLED, COUNTED, FELT, one_large_layer, plain, probed, unrounded

ROOT = Path(__file__).resolve().parents[2]
TESTED, TEST_SECONDS = ("tests/unit/calibration", "tests/unit/quantization", "tests/unit/evaluation"), 240
WIDTHS = 3  # of "sensitivity at three widths"


def seconds_of(work: Callable[[], object], device: str) -> float:
    """Seconds until the device has done it."""
    begun = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def rates(device: str) -> tuple[float, float]:
    """Bytes a second of a copy (read and written) and operations a second of a product in bfloat16, best of five."""
    size = 1 << (29 if device == "cuda" else 24)
    source, side = torch.zeros(size, dtype=torch.uint8, device=device), 8192 if device == "cuda" else 512
    left = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    copied = min(seconds_of(source.clone, device) for _ in range(5))
    multiplied = min(seconds_of(lambda: left @ left, device) for _ in range(5))
    return 2 * size / copied, 2 * side**3 / multiplied


def floors(loaded: LoadedModel, tokens: int, rate: tuple[float, float]) -> dict[str, float]:
    """Seconds that each row needs at least: operations of the chosen experts, and bytes of their weights."""
    [bank] = loaded.banks.values()
    matrices = 3 * bank.hidden * bank.intermediate
    visits = tokens * loaded.model.config.text_config.num_experts_per_tok
    chosen, weights = 2 * matrices * visits, 2 * matrices * bank.experts
    hessians = 2 * (bank.hidden**2 + bank.intermediate**2) * visits  # of what enters gate and up, and down
    needed = {
        "plain forward": (weights, chosen),
        "frequencies": (weights, chosen),
        "sensitivity": ((1 + WIDTHS) * weights, (1 + WIDTHS) * chosen),
        "rtn": (2 * weights, 0),
        "gptq": (2 * weights, chosen + hessians),
    }
    return {name: max(moved / rate[0], done / rate[1]) for name, (moved, done) in needed.items()}


def rows(loaded: LoadedModel, samples: list, batches: list, device: str) -> Iterator[tuple[str, float, float]]:
    """Name, seconds and peak GB, each after one round to warm up."""
    felt = FELT["frequencies + sensitivity at 3 widths"]
    rounded = {name: RoundedBank.of(bank, felt) for name, bank in loaded.banks.items()}
    works: dict[str, Callable[[], object]] = {
        "plain forward": lambda: plain(loaded)(batches),
        "frequencies": lambda: probed(loaded, unrounded(loaded), COUNTED["frequencies"])(batches),
        "sensitivity": lambda: probed(loaded, rounded, felt)(batches),
    }

    def rounding(method: str) -> None:
        given = {"samples": samples} if method == "gptq" else {}
        with quantize_experts(loaded, uniform(loaded, 3), Quantizer(method), **given):
            pass

    works |= {method: lambda method=method: rounding(method) for method in ("rtn", "gptq")}
    for name, work in works.items():
        work()
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        took = seconds_of(work, device)
        yield name, took, torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else float("nan")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--experts", type=int, default=128)
    parser.add_argument("--limit", type=int, default=16)
    parser.add_argument("--no-tests", action="store_true", help="the table alone")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("There is no GPU here that PyTorch can use; nothing was measured. --device cpu rehearses it.")
    name = torch.cuda.get_device_name() if options.device == "cuda" else "CPU, a rehearsal"
    print(f"{name}, torch {torch.__version__}\n")
    if not options.no_tests:
        command = [sys.executable, "-m", "pytest", "-q", "-x", *TESTED]
        try:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TEST_SECONDS)
            print("Unit tests:", (done.stdout.strip().splitlines() or ["nothing printed"])[-1], "\n")
        except subprocess.TimeoutExpired:
            print(f"Unit tests: not finished within {TEST_SECONDS} s\n")
    loaded = one_large_layer(num_experts=options.experts)
    loaded.model.to(options.device)
    samples = list(read_samples(BUNDLED / "calibration")[: options.limit])
    batches = [loaded.encode(samples[first : first + 4]) for first in range(0, len(samples), 4)]
    tokens = sum(int((encoded.modality != PADDING).sum()) for encoded in batches)
    rate = rates(options.device)
    least = floors(loaded, tokens, rate)
    print(
        f"{tokens:,} tokens, one layer of {options.experts} experts; a copy moves {rate[0] / 1e9:.0f} GB/s, a product"
    )
    print(f"in bfloat16 does {rate[1] / 1e12:.2f} TFLOP/s.\n")
    print("| | seconds | floor | × floor | peak GB |\n|---|---:|---:|---:|---:|")
    for row, took, peak in rows(loaded, samples, batches, options.device):
        print(f"| {row} | {took:.4f} | {least[row]:.4f} | {took / least[row]:.1f} | {peak:.2f} |", flush=True)


if __name__ == "__main__":
    main()
