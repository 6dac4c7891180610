"""A checkpoint larger than the memory that the process may use is quantized and exported, piece by piece.

    python -m tests.benchmarks.export_streaming [--layers 3] [--targets auto_round dequantized] [--folder /tmp]

Makes a checkpoint with the shapes of Qwen3-VL-30B-A3B (see `large_model`), exports it in a process of its own whose
memory a cgroup limits (see `calibrate_offload`), and deletes both. Widths of 2, 3 and 4 bits are drawn for
every expert (seed 0). Needs about twice the checkpoint in disk.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.benchmarks.calibrate_offload import Cgroup, watched
from tests.benchmarks.large_model import EXPERT_BYTES, make

CONSTANT = 1_500_000_000  # bytes: Python and its libraries, embeddings, some experts, one shard
BANK = "model.language_model.layers.{}.mlp.experts"


def export_one(target: str, source: Path, out: Path, layers: int) -> None:
    """What the watched process does."""
    from mode_core.allocation.records import Allocation
    from mode_core.export import export

    draw = np.random.default_rng(0)
    bits = {BANK.format(layer): draw.choice([2, 3, 4], 128) for layer in range(layers)}
    allocation = Allocation(bits, (2, 3, 4), 0.0, 0.0, False, 0.0, 3.0)
    result = export(target, allocation, out, checkpoint=source, shard_bytes=200_000_000)
    manifest = result.manifest
    experts = manifest["predicted_expert_bytes"] / 1e9
    print(f"{target}: {len(result.files)} files, {manifest['bytes'] / 1e9:.2f} GB; packed experts {experts:.2f} GB.")


def main() -> None:
    """Make, export under the limit, print, delete."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--targets", nargs="+", default=["auto_round", "dequantized"])
    parser.add_argument("--folder", default=None, help="where the checkpoint goes meanwhile")
    parser.add_argument("--limit-mb", type=int, default=CONSTANT // 10**6, help="one layer more for dequantized")
    parser.add_argument("--no-cgroup", action="store_true", help="only watch, where no memory cgroup can be made")
    parser.add_argument("--worker", nargs=3, metavar=("TARGET", "SOURCE", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        target, source, out = options.worker
        export_one(target, Path(source), Path(out), options.layers)
        return
    with tempfile.TemporaryDirectory(prefix="large-export-", dir=options.folder) as place:
        source, out = Path(place) / "model", Path(place) / "out"
        size = make(source, options.layers)
        for target in options.targets:
            limit = options.limit_mb * 10**6 + (EXPERT_BYTES if target == "dequantized" else 0)
            print(f"{options.layers} layers, {size / 1e9:.2f} GB; limit {limit / 1e9:.2f} GB: 1 to {size / limit:.2f}.")
            command = [sys.executable, "-m", "tests.benchmarks.export_streaming", "--layers", str(options.layers)]
            group = None if options.no_cgroup else Cgroup(limit)
            code, peaks, seconds = watched([*command, "--worker", target, str(source), str(out)], limit, group)
            peak = {name: round(value / 1e9, 2) for name, value in peaks.items()}
            print(f"{target}: exit code {code}, {seconds:.0f} s. Peaks in GB: {peak}", flush=True)
            shutil.rmtree(out, ignore_errors=True)


if __name__ == "__main__":
    main()
