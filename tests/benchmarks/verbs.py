"""What every verb costs on the bundled model: seconds and peak memory, as the command line reports them.

    python tests/benchmarks/verbs.py [MODEL SAMPLES EVALUATION]

Prints a Markdown table. Each verb runs in a process of its own, so that memory is that verb's alone; the peak
includes the interpreter and its libraries (about 400 MB with torch and transformers).
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run_verb(*arguments: str) -> dict:
    """One verb in a fresh process; its JSON result."""
    command = [sys.executable, "-m", "mode_core", *arguments, "--json", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}\n{done.stderr}")
    return json.loads(done.stdout)


def main() -> None:
    """Walk the road once and print the table."""
    model, samples, evaluation = sys.argv[1:] or [
        str(ROOT / "sample_data" / name) for name in ("model", "calibration", "evaluation")
    ]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        run, name = f"{folder}/run", "three"
        steps = {
            "calibrate": ["--model", model, "--samples", samples, "--out", run],
            "allocate": ["--run", run, "--average-bits", "3", "--name", name],
            "quantize": ["--run", run, "--allocation", name, "--model", model, "--out", f"{folder}/packed.safetensors"],
            "evaluate": ["--run", run, "--allocation", name, "--model", model, "--samples", evaluation],
            "export expert_bits": [
                "--run",
                run,
                "--allocation",
                name,
                "--target",
                "expert_bits",
                "--out",
                f"{folder}/a",
            ],
            "export table": ["--run", run, "--allocation", name, "--target", "table", "--out", f"{folder}/b"],
        }
        for verb, arguments in steps.items():
            cost = run_verb(verb.split()[0], *arguments)["cost"]
            rows.append((verb, cost["seconds"], cost["peak_memory_mb"]))
    print(f"Measured on {os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}.\n")
    print("| verb | seconds | peak memory, MB |\n|---|---:|---:|")
    for verb, seconds, memory in rows:
        print(f"| `{verb}` | {seconds:.1f} | {memory:.0f} |")


if __name__ == "__main__":
    main()
