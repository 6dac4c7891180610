"""Is the memory of a calibration what was told before? `python -m tests.benchmarks.memory_estimate`.

The bundled model, and one made up of two layers in the shapes of Qwen3-VL-30B-A3B with 32 experts each, calibrated by
the command line on the first bundled samples, each in a process of its own: the Calibrate page's estimate beside the
peak of resident memory, files' pages included.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from dashboard.jobs.forecast import estimate_memory
from mode_core.calibration import CalibrationSettings
from tests.benchmarks.large_model import BUNDLED, make

ROWS = (  # larger model?, gradients, samples, batch
    (False, False, 24, 4), (False, False, 24, 16), (False, True, 24, 4), (False, True, 96, 4), (False, True, 192, 4),
    (False, True, 96, 16), (True, False, 3, 1), (True, True, 3, 1),
)  # fmt: skip


def peak(model: Path, out: Path, settings: CalibrationSettings, samples: int) -> tuple[float, int]:
    """Bytes of resident memory at the peak, and tokens of a sample."""
    command = [sys.executable, "-m", "mode_core", "calibrate", "--model", str(model), "--samples"]
    command += [str(BUNDLED.parent / "calibration"), "--limit", str(samples), "--out", str(out), "--json", "--quiet"]
    command += ["--gradients" if settings.gradients else "--no-gradients", "--batch-size", str(settings.batch_size)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    tokens = json.loads((out / "run.json").read_text(encoding="utf-8"))["tokens"]
    return 1e6 * json.loads(done.stdout)["cost"]["peak_memory_mb"], sum(tokens.values()) // samples


def main() -> None:
    """Print the table."""
    print("| model | calibration | estimate, GB | measured, GB |\n|---|---|---:|---:|")
    with tempfile.TemporaryDirectory(prefix="memory-") as place:
        make(larger := Path(place) / "model", 2, num_experts=32, num_local_experts=32)
        for number, (large, gradients, samples, batch) in enumerate(ROWS):
            model, settings = larger if large else BUNDLED, CalibrationSettings(gradients=gradients, batch_size=batch)
            took, tokens = peak(model, Path(place) / f"run-{number}", settings, samples)
            told = estimate_memory(str(model), settings, tokens=tokens)
            what = f"{samples} samples by {batch}" + ", gradients" * gradients
            print(
                f"| {'two large layers' if large else 'bundled'} | {what} | {told.least / 1e9:.2f} to "
                f"{told.most / 1e9:.2f} | {took / 1e9:.2f} |", flush=True,
            )  # fmt: skip


if __name__ == "__main__":
    main()
