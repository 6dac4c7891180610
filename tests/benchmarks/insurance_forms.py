"""Forms of insurance beside each other: what else than drawing costs to their bank's mean could guard rare experts.

    python -m tests.benchmarks.insurance_forms FOLDER RUN [RUN ...] [--limit 500]

Every form changes the costs of `mode_soft_fisher` before the same solver (scope model, widths 1 to 4) sees them; the
RUNs are calibrations of the bundled model by independent samples. FOLDER keeps the measurements, so that what was
stopped goes on. Printed, by kind of item: mean KL to the original, and the difference from the bank's mean with λ 0.5
with a 95 % interval by paired bootstrap over items within tasks and over the runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mode_core import bundled
from mode_core.comparison import PreparedItems, RoundedExperts
from mode_core.comparison.bootstrap import Resamples, bounds
from mode_core.comparison.store import Store
from mode_core.importance import CostTable
from mode_core.models import load_model
from mode_core.quantization import Quantizer
from mode_core.request import AllocationRequest
from mode_core.run import Run
from mode_core.samples import read_samples
from mode_core.statistics import ExpertStatistics

WIDTHS, BUDGETS = (1, 2, 3, 4), (3.5, 3.0, 2.5, 2.0)
ASKED = AllocationRequest(method="mode_soft_fisher", scope="model", widths=WIDTHS, shrinkage=0.0)

Bank = np.ndarray  # costs of one bank [E, B]
Form = Callable[[Bank, str, dict[str, Bank], ExpertStatistics], Bank]


def to_bank(weight: float | Sequence[float]) -> Form:
    """To the mean of the bank, by λ or by a λ for each width."""
    drawn = np.asarray(weight)
    return lambda own, *_: (1 - drawn) * own + drawn * own.mean(axis=0)


def to_model(own: Bank, _name: str, costs: dict[str, Bank], _statistics: ExpertStatistics) -> Bank:
    """To the mean of all experts of the model, λ 0.5."""
    return (own + np.concatenate(list(costs.values())).mean(axis=0)) / 2


def to_weight_errors(own: Bank, name: str, _costs: dict[str, Bank], statistics: ExpertStatistics) -> Bank:
    """To the mean of the bank spread as the squared errors of the experts' weights, λ 0.5."""
    columns = [statistics.bits.index(width) for width in WIDTHS]
    errors = statistics.banks[name].total("weight_error").sum(axis=-1)[:, columns]
    return (own + own.mean(axis=0) * errors / errors.mean(axis=0)) / 2


def floored(quantile: float) -> Form:
    """No expert below this quantile of its bank."""
    return lambda own, *_: np.maximum(own, np.quantile(own, quantile, axis=0))


def geometric(own: Bank, *_: object) -> Bank:
    """Geometric in place of arithmetic mean of an expert's own cost and its bank's mean."""
    return np.sqrt(own * own.mean(axis=0))


FORMS: dict[str, Form] = {
    "to the bank's mean, λ 0.5": to_bank(0.5),
    "as they are, λ 0": to_bank(0.0),
    "to the bank's mean, λ 0.3": to_bank(0.3),
    "to the bank's mean, λ 0.7": to_bank(0.7),
    "to the mean of the whole model, λ 0.5": to_model,
    "to the bank's mean, spread as the weight errors, λ 0.5": to_weight_errors,
    "floor at the bank's median": floored(0.5),
    "floor at the bank's 0.75 quantile": floored(0.75),
    "geometric mean, λ 0.5": geometric,
    "λ by width, 0.7 at 1 bit to 0 at 4 bits": to_bank((0.7, 0.47, 0.23, 0.0)),
    "λ by width, 0.3 at 1 bit to 0.7 at 4 bits": to_bank((0.3, 0.43, 0.57, 0.7)),
}


def solved(statistics: ExpertStatistics, form: Form) -> list[dict[str, np.ndarray]]:
    """Bits at every budget by the costs of that form."""
    plain: CostTable = ASKED.costs(statistics)
    drawn = {name: form(own, name, plain.costs, statistics) for name, own in plain.costs.items()}
    solver, quantizer = ASKED.solver(statistics, costs=replace(plain, costs=drawn)), Quantizer().fitted(statistics)
    return [dict(replace(ASKED, budget=budget).within(solver, quantizer).bits) for budget in BUDGETS]


def main() -> None:
    """Measure, and print a table a kind of item."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--limit", type=int, default=500)
    options = parser.parse_args()
    runs = [Run.open(path).measured() for path in options.runs]
    loaded = load_model(bundled.MODEL, device="cpu", dtype="float32")
    items = PreparedItems(loaded, read_samples(bundled.EVALUATION, limit=options.limit))
    store, rounded = Store(options.folder, {"items": items.digest()}), RoundedExperts(loaded, WIDTHS, Quantizer())
    kl = np.zeros([len(FORMS), len(BUDGETS), len(runs), len(items)], np.float32)
    for row, form in enumerate(FORMS.values()):
        for draw, statistics in enumerate(runs):
            for column, bits in enumerate(solved(statistics, form)):
                if (key := store.key(bits)) not in store:
                    with rounded.applied(bits):
                        store.put(key, items.measure())
                kl[row, column, draw] = store[key].kl
    strata = [f"{task}|{kind}" for task, kind in zip(items.tasks, items.modalities, strict=True)]
    redrawn = Resamples(strata, len(runs))
    for kind in ("text", "vision"):
        mask = items.modalities == kind
        print(f"\n| KL, {kind} ({mask.sum()} items), at | " + " | ".join(f"{budget:g}" for budget in BUDGETS) + " |")
        print("|---|" + "---|" * len(BUDGETS))
        for row, (name, own) in enumerate(zip(FORMS, kl, strict=True)):
            low, high = bounds(redrawn.over_draws(redrawn.of_draws(own - kl[0], mask)))
            means, apart = own[..., mask].mean(axis=(1, 2)), (own - kl[0])[..., mask].mean(axis=(1, 2))
            cells = [
                f"{mean:.4f}" + (f" ({by:+.4f} [{a:+.4f}, {b:+.4f}])" if row else "")
                for mean, by, a, b in zip(means, apart, low, high, strict=True)
            ]
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
