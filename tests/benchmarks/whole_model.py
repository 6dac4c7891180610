"""All 48 layers of Qwen3-VL-30B-A3B, streamed: what a calibration takes beside what was said before it.

    python -m tests.benchmarks.whole_model [--layers 48] [--inner 96] [--wide 768] [--samples 4] [--folder /tmp]

Made-up checkpoints (see `large_model`): random weights, vision tower and vocabulary of the bundled model. Of the long
one layers, hidden size, attention, routers and the number of experts are the real ones, and every expert is narrower
(`--inner` in the place of 768), so that 48 layers and what transformers rewrites of them fit on a small disk. It is
calibrated for frequencies in one run, 0.4 GB of weights in memory. How long that takes is foretold from a sixteenth
and an eighth of the layers; how much memory by what the Calibrate page says, with the weights that may be in memory in
the place of all. Then one and two layers of the real width (`--wide`) are calibrated for sensitivity at 3 bits, and
extrapolated to 48. Everything is deleted.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.calibrate_offload import uncache, watched
from tests.benchmarks.large_model import SHAPE, make

IN_MEMORY = 400_000_000  # bytes of weights, beside the largest module
NO_LIMIT = 1 << 62


def foretold(folder: Path, bits: tuple[int, ...]) -> float:
    """GB by the Calibrate page's estimate, with the weights that may be in memory, and one layer's, in place of all."""
    from dashboard.jobs.forecast import estimate_memory, outlined
    from mode_core.calibration import CalibrationSettings

    settings = CalibrationSettings(bits=bits or (3,), sensitivity=bool(bits), batch_size=4)
    banks, parameters = outlined(str(folder))
    bank = max(one.experts * 3 * one.hidden * one.intermediate for one in banks) * 2
    whole = sum(parameter.nbytes for parameter in parameters)
    return (estimate_memory(str(folder), settings).least - whole + min(whole, IN_MEMORY + 2 * bank)) / 1e9


def calibrated(place: Path, layers: int, inner: int, samples: int, bits: tuple[int, ...]) -> tuple[float, float]:
    """Make such a checkpoint, calibrate it in a process of its own, delete it; seconds of measuring, peak GB."""
    with tempfile.TemporaryDirectory(prefix="whole-model-", dir=place) as own:
        folder, run = Path(own) / "model", Path(own) / "run"
        size = make(folder, layers, moe_intermediate_size=inner)
        uncache(folder)
        command = [sys.executable, "-m", "mode_core", "calibrate", "--model", str(folder), "--out", str(run), "--quiet"]
        command += ["--max-memory", str(IN_MEMORY), "--offload-folder", str(Path(own) / "offload"), "--no-gradients"]
        command += ["--limit", str(samples), "--batch-size", str(samples), "--exemplars", "0"]
        command += ["--measure-bits", *map(str, bits)] if bits else ["--no-sensitivity", "--measure-bits", "3"]
        code, peaks, seconds = watched(command, NO_LIMIT, None, told=False)
        if code:
            raise SystemExit(f"calibrate ended with {code}")
        info = json.loads((run / "run.json").read_text(encoding="utf-8"))
        told = foretold(folder, bits)
        print(
            f"| {layers} × {SHAPE['num_experts']} × {inner} | {'bits ' + str(bits) if bits else 'frequencies'} | "
            f"{size / 1e9:.1f} | {sum(info['tokens'].values())} | {seconds:.0f} | {info['seconds']:.0f} | {told:.2f} | "
            f"{peaks['anonymous'] / 1e9:.2f} |", flush=True,
        )  # fmt: skip
        return info["seconds"], peaks["anonymous"] / 1e9


def line(points: dict[int, float], at: int) -> float:
    """Through two points, read off at another place."""
    (one, first), (two, second) = points.items()
    return first + (second - first) / (two - one) * (at - one)


def main() -> None:
    """Print the table, and what was foretold beside what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=48)
    parser.add_argument("--inner", type=int, default=96)
    parser.add_argument("--wide", type=int, default=SHAPE["moe_intermediate_size"])
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--folder", default=None, help="where the checkpoints go meanwhile")
    options = parser.parse_args()
    place, long = Path(options.folder or tempfile.gettempdir()), options.layers
    print("| layers × experts × width | measured | GB | tokens | s | s measuring | GB foretold | GB held |")
    short = {n: calibrated(place, n, options.inner, options.samples, ())[0] for n in (long // 16, long // 8)}
    seconds, _ = calibrated(place, long, options.inner, options.samples, ())
    print(f"Frequencies of {long} layers: {line(short, long):.0f} s foretold, {seconds:.0f} s measured.")
    wide = {n: calibrated(place, n, options.wide, options.samples, (3,))[0] for n in (1, 2)}
    print(f"Sensitivity of {long} layers of width {options.wide}: {line(wide, long):.0f} s, extrapolated.")


if __name__ == "__main__":
    main()
