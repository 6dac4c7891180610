"""What a rotation is worth: KL to the original with the experts rounded, in the basis they came in and rotated.

    python -m tests.benchmarks.rotation_worth --work runs/rotation [--limit 460] [--seeds 0 1 2]

The bundled model is rotated (`rotate --seed S`, written as it is stored); both are calibrated on the bundled samples
with gradients, and every allocation is solved from its own model's statistics, widths 1 to 4. Both are measured against
the same answers, the original's. Printed: mean KL of the original, mean over seeds of the rotated, and the difference
with its 95 % interval, by paired bootstrap over items within tasks and over seeds. What lies under `--work` is used
again.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from mode_core import bundled
from mode_core.cli import main as mode_core
from mode_core.comparison.bootstrap import Resamples, bounds
from mode_core.comparison.items import PreparedItems
from mode_core.comparison.width_switch import RoundedExperts
from mode_core.importance import recommended
from mode_core.models import load_model
from mode_core.quantization import Quantizer
from mode_core.request import AllocationRequest
from mode_core.run import Run
from mode_core.samples import read_samples

WIDTHS, BUDGETS, METHODS = (1, 2, 3, 4), (3.0, 2.5, 2.0), ("uniform", "recommended")


def prepared(work: Path, seed: int | None) -> tuple[str, Run]:
    """The folder of a model (None: the original) and a run on it, made where they are not there."""
    name = "original" if seed is None else f"rotated-{seed}"
    model = bundled.MODEL if seed is None else work / name
    if not model.exists():
        assert mode_core(["rotate", "--out", str(model), "--seed", str(seed), "--quiet"]) == 0
    if not (work / f"run-{name}" / "run.json").is_file():
        where = ["--model", str(model), "--out", str(work / f"run-{name}")]
        assert mode_core(["calibrate", "--gradients", "--dtype", "float32", *where, "--quiet"]) == 0
    return str(model), Run.open(work / f"run-{name}")


def measured(model: str, run: Run, samples: list, base: PreparedItems | None) -> tuple[PreparedItems, dict]:
    """KL of every item `[n]`, by quantizer, method and budget; against the answers of `base`'s model."""
    loaded, found = load_model(model, device="cpu", dtype="float32"), {}
    items = PreparedItems(loaded, samples)
    if base is not None:
        items._original = base._original
    found["none", "", 16.0] = items.measure().kl
    best = recommended(run.statistics).settings
    for method in ("rtn", "gptq"):
        rounded = RoundedExperts(
            loaded, WIDTHS, Quantizer(method).fitted(run.statistics), read_samples(bundled.CALIBRATION)
        )
        for name in METHODS:
            for budget in BUDGETS:
                asked = AllocationRequest(widths=WIDTHS, budget=budget, method="uniform")
                asked = replace(asked, **best) if name == "recommended" else asked
                with rounded.applied(asked.solve(run.statistics).bits):
                    found[method, name, budget] = items.measure().kl
                print(model, method, name, budget, f"{found[method, name, budget].mean():.4f}", flush=True)
    return items, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=460)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    samples = read_samples(bundled.EVALUATION, limit=options.limit)
    items, original = measured(*prepared(options.work, None), samples, None)
    rotated = [measured(*prepared(options.work, seed), samples, items)[1] for seed in options.seeds]
    strata = [f"{task}|{modality}" for task, modality in zip(items.tasks, items.modalities, strict=True)]
    redrawn = Resamples(strata, len(rotated))
    for modality in np.unique(items.modalities):
        mask = items.modalities == modality
        print(
            f"\n| {modality} ({mask.sum()} items) | bits | original | rotated | difference |\n|---|---:|---:|---:|---|"
        )
        for key, before in original.items():
            after = np.stack([one[key] for one in rotated])
            low, high = bounds(redrawn.over_draws(redrawn.of_draws(after - before, mask)))
            change = float((after - before)[:, mask].mean())
            told = f"{before[mask].mean():.4f} | {after[:, mask].mean():.4f} | {change:+.4f} [{low:+.4f}, {high:+.4f}]"
            print(f"| `{key[0]}`, {key[1]} | {key[2]:g} | {told} |")


if __name__ == "__main__":
    main()
