"""What two ways to choose and read calibration samples are worth on the bundled model: `--balance`, `--own-answers`.

    python -m tests.benchmarks.coverage_worth FOLDER [balance] [own] [gptq]

FOLDER keeps samples, runs and measurements; a run that was stopped goes on there. Each part sets two ways beside each
other on three draws and 500 evaluation items: KL to the original of the first, of the second, and their difference with
a 95 % interval by paired bootstrap over items and draws.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mode_core.comparison import ComparisonSettings, PreparedItems, RoundedExperts
from mode_core.comparison.bootstrap import Resamples, bounds
from mode_core.comparison.plan import entries
from mode_core.comparison.store import Store
from mode_core.importance import METHODS
from mode_core.models import LoadedModel, load_model
from mode_core.quantization import GptqSettings, Quantizer
from mode_core.run import Run
from mode_core.samples import read_samples
from mode_core.statistics import ExpertStatistics

ROOT = Path(__file__).resolve().parents[2]
BUDGETS, DRAWS, POOLED, CHOSEN = (3.0, 2.5, 2.0), (0, 1, 2), 4, 64


def python(*words: object) -> None:
    """A module of this repository in a process of its own."""
    subprocess.run([sys.executable, "-m", *map(str, words)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def drawn(folder: Path, number: int) -> Path:
    """A calibration set of the bundled mix."""
    made = folder / "draws" / str(number)
    if not made.is_dir():
        python("sample_data.draw", "--draw", number, "--out", made)
    return made


def pooled(folder: Path, number: int) -> Path:
    """A pool of `POOLED` such sets."""
    pool = folder / "pools" / str(number)
    if not (pool / "samples.jsonl").is_file():
        pool.mkdir(parents=True)
        lines = []
        for part in range(POOLED):
            one = drawn(folder, 11 + number * POOLED + part)
            shutil.copytree(one / "images", pool / str(part))
            for line in (one / "samples.jsonl").read_text().splitlines():
                entry = json.loads(line)
                images = [image.replace("images/", f"{part}/") for image in entry["images"]]
                lines.append(json.dumps(entry | {"id": f"{part}-{entry['id']}", "images": images}))
        (pool / "samples.jsonl").write_text("\n".join(lines))
    return pool


def calibrated(folder: Path, samples: Path, *options: object) -> ExpertStatistics:
    """The statistics of these samples with these options of `calibrate`."""
    out = folder / "runs" / "-".join([samples.name, *(str(word).strip("-") for word in options)])
    if not (out / "run.json").is_file():
        plain = ("--quiet", "--dtype", "float32", "--no-anchor", "--token-scores", 0)
        python("mode_core", "calibrate", *plain, "--samples", samples, "--out", out, *options)
    return Run.open(out).measured()


def kl(
    loaded: LoadedModel, items: PreparedItems, runs: Sequence[ExpertStatistics], asked: ComparisonSettings,
    folder: Path, calibration: Sequence[Path] = (),
) -> np.ndarray:  # fmt: skip
    """KL of every budget, draw and item `[B, D, n]`; what gptq looks at in `calibration`, draw by draw."""
    found = np.zeros([len(BUDGETS), len(runs), len(items)])
    for number, statistics in enumerate(runs):
        settings = asked.fitted(statistics)
        looked = read_samples(calibration[number]) if calibration else None
        ground = {"items": items.digest(), "quantizer": settings.quantizer.digest, "looked": number if looked else ""}
        store, rounded = Store(folder / "measured", ground), None
        natural = METHODS[settings.methods[0]].scopes[0]
        for row, entry in enumerate(each for each in entries([statistics], settings) if each.scope == natural):
            if (key := store.key(entry.allocation.bits)) not in store:
                rounded = rounded or RoundedExperts(loaded, settings.request.widths, settings.quantizer, looked)
                with rounded.applied(entry.allocation.bits):
                    store.put(key, items.measure())
            found[row, number] = store[key].kl
    return found


def told(title: str, items: PreparedItems, first: np.ndarray, second: np.ndarray) -> None:
    """One row a kind of item and budget."""
    strata = [f"{task}|{kind}" for task, kind in zip(items.tasks, items.modalities, strict=True)]
    redrawn = Resamples(strata, first.shape[1])
    for kind in ("text", "vision"):
        mask = items.modalities == kind
        low, high = bounds(redrawn.over_draws(redrawn.of_draws((second - first).astype(np.float32), mask)))
        for row, budget in enumerate(BUDGETS):
            one, two = first[row][:, mask].mean(), second[row][:, mask].mean()
            print(f"{title} | {kind} | {budget} | {one:.4f} | {two:.4f} | {two - one:+.4f} [{low[row]:+.4f}, "
                  f"{high[row]:+.4f}]", flush=True)  # fmt: skip


def main() -> None:
    """Measure the parts that are named, or all."""
    folder, parts = Path(sys.argv[1]).absolute(), sys.argv[2:] or ["balance", "own", "gptq"]
    loaded = load_model(ROOT / "sample_data/model", device="cpu", dtype="float32")
    items = PreparedItems(loaded, read_samples(ROOT / "sample_data/evaluation", limit=500))
    best = ComparisonSettings(methods=("mode_soft_fisher",), average_bits=BUDGETS, shrinkage=(0.5,), truth_bits=())
    if "balance" in parts:
        pools = [pooled(folder, number) for number in DRAWS]
        ways = [[calibrated(folder, pool, "--gradients", option, CHOSEN) for pool in pools]
                for option in ("--limit", "--balance")]  # fmt: skip
        told("balance", items, *(kl(loaded, items, way, best, folder) for way in ways))
    sets = [drawn(folder, number) for number in (1, 2, 3)]
    if "own" in parts:
        mode = replace(best, methods=("mode",), shrinkage=(0.85,))
        ways = [[calibrated(folder, each, "--no-gradients", *more) for each in sets]
                for more in ((), ("--own-answers", 16))]  # fmt: skip
        told("own answers, mode", items, *(kl(loaded, items, way, mode, folder) for way in ways))
    if "gptq" in parts:
        runs = [calibrated(folder, each, "--gradients") for each in sets]
        ways = {"no answers": GptqSettings(answers=False), "the samples' answers": GptqSettings()}
        ways |= {"own answers": GptqSettings(own_answers=16)}
        asked = {name: replace(best, quantizer=Quantizer("gptq", gptq=own)) for name, own in ways.items()}
        found = {name: kl(loaded, items, runs, each, folder, sets) for name, each in asked.items()}
        for name in ("no answers", "the samples' answers"):
            told(f"gptq, own answers against {name}", items, found[name], found["own answers"])


if __name__ == "__main__":
    main()
