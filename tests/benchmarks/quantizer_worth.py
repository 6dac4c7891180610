"""What each quantizer and each weighting of `gptq` is worth on the bundled model.

    python -m tests.benchmarks.quantizer_worth FOLDER

Every expert at one width (uniform), and the recommended estimate's bits, are rounded in each way, on three calibration
draws and 500 evaluation items; FOLDER keeps samples, runs and measurements, so that what was stopped goes on. Printed:
KL to the original, and the difference from `rtn` with a 95 % interval by paired bootstrap over items and draws.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from mode_core import bundled
from mode_core.comparison import ComparisonSettings, PreparedItems
from mode_core.comparison.bootstrap import Resamples, bounds
from mode_core.models import load_model
from mode_core.quantization import GptqSettings, Quantizer
from mode_core.samples import read_samples
from tests.benchmarks.coverage_worth import BUDGETS, calibrated, drawn, kl

WAYS = {
    "rtn": Quantizer("rtn"),
    "hqq": Quantizer("hqq"),
    "gptq, questions alone": Quantizer("gptq", gptq=GptqSettings(answers=False)),
    "gptq": Quantizer("gptq"),
    "gptq by modality": Quantizer("gptq", gptq=GptqSettings(weighting="modality")),
    "gptq by affinity": Quantizer("gptq", gptq=GptqSettings(affinity=1.0)),
    "gptq by modality and affinity": Quantizer("gptq", gptq=GptqSettings(weighting="modality", affinity=1.0)),
    "gptq, damping 0.1": Quantizer("gptq", gptq=GptqSettings(damping=0.1)),
    "gptq by modality, damping 0.1": Quantizer("gptq", gptq=GptqSettings(weighting="modality", damping=0.1)),
}
CHOSEN = {"uniform": ("uniform", 0.0), "recommended": ("mode_soft_fisher", 0.5)}


def main() -> None:
    """Measure all, and print a table for each choice of bits and each kind of item."""
    folder = Path(sys.argv[1]).absolute()
    loaded = load_model(bundled.MODEL, device="cpu", dtype="float32")
    items = PreparedItems(loaded, read_samples(bundled.EVALUATION, limit=500))
    sets = [drawn(folder, number) for number in (1, 2, 3)]
    runs = [calibrated(folder, each, "--gradients") for each in sets]
    strata = [f"{task}|{kind}" for task, kind in zip(items.tasks, items.modalities, strict=True)]
    redrawn = Resamples(strata, len(runs))
    for title, (method, shrinkage) in CHOSEN.items():
        asked = ComparisonSettings(methods=(method,), average_bits=BUDGETS, shrinkage=(shrinkage,), truth_bits=())
        found = {}
        for name, quantizer in WAYS.items():
            looked = sets if quantizer.method == "gptq" else ()
            found[name] = kl(loaded, items, runs, replace(asked, quantizer=quantizer), folder, looked)
            print(title, name, found[name].mean(axis=(1, 2)).round(4).tolist(), flush=True)
        for kind in ("text", "vision"):
            mask = items.modalities == kind
            print(
                f"\n| {title}, {kind} | "
                + " | ".join(f"{budget:g} bits" for budget in BUDGETS)
                + " |\n|---|---|---|---|"
            )
            for name, own in found.items():
                apart = (own - found["rtn"]).astype(np.float32)
                low, high = bounds(redrawn.over_draws(redrawn.of_draws(apart, mask)))
                cells = [
                    f"{own[row][:, mask].mean():.4f}"
                    + (
                        f" ({apart[row][:, mask].mean():+.4f} [{low[row]:+.4f}, {high[row]:+.4f}])"
                        if name != "rtn"
                        else ""
                    )
                    for row in range(len(BUDGETS))
                ]
                print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
