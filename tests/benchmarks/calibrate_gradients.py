"""What gradients cost in calibration, in time and memory: `python -m tests.benchmarks.calibrate_gradients`.

Calibrates the first samples of the bundled set in a process of its own each, so that peaks do not mix: without
gradients, with them, with four projections, and with the Hessian's trace. Shown are wall and CPU time per sample
beyond rounding the experts (the same for all), the peak of the process's resident memory, and the bytes that the
statistics take.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CASES = {
    "no gradients": {},
    "gradients": {"gradients": True},
    "gradients, 4 projections": {"gradients": True, "gradient_draws": 4},
    "Hessian, 1 probe": {"hessian_probes": 1},
}


def measure(limit: int, settings: dict) -> dict[str, float]:
    """Wall and CPU seconds per sample, peak bytes, bytes of statistics; run in a fresh process."""
    import resource
    import time

    from mode_core.calibration import CalibrationSettings, calibrate
    from mode_core.models import load_model
    from mode_core.samples import read_samples

    loaded = load_model(ROOT / "sample_data" / "model", device="cpu")
    samples = read_samples(ROOT / "sample_data" / "calibration")[:limit]
    marks: list[tuple[float, float]] = []

    def note(progress) -> None:
        if progress.what.startswith("sample"):
            marks.append((time.perf_counter(), time.process_time()))

    statistics = calibrate(loaded, samples, CalibrationSettings(**settings), progress=note)
    measured = CalibrationSettings().batch_size * (len(marks) - 1)  # the first batch warms up
    return {
        "seconds": (marks[-1][0] - marks[0][0]) / measured,
        "cpu": (marks[-1][1] - marks[0][1]) / measured,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "statistics": sum(array.nbytes for bank in statistics for array in bank.arrays.values()),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=64, help="a multiple of the batch size, 4")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(options.samples, CASES[options.case])))
        return
    load = os.getloadavg()[0]
    print(f"bundled model, {options.samples} samples in batches of 4; load of the machine before: {load:.1f}")
    print(f"{'':<28}{'ms a sample':>14}{'CPU ms':>10}{'peak MB':>12}{'statistics MB':>16}")
    for case in CASES:
        command = [sys.executable, "-m", "tests.benchmarks.calibrate_gradients", "--case", case]
        command += ["--samples", str(options.samples)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
        found = json.loads(done.stdout.strip().splitlines()[-1])
        seconds, peak, size = 1e3 * found["seconds"], found["peak"] / 1e6, found["statistics"] / 1e6
        print(f"{case:<28}{seconds:>14.1f}{1e3 * found['cpu']:>10.1f}{peak:>12.0f}{size:>16.1f}", flush=True)


if __name__ == "__main__":
    main()
