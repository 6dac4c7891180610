"""Which estimate should I trust on this model? Random groups of experts are rounded, and what was predicted compared.

A group is a random half of the experts of every bank at a low width, the rest as they were. Its damage is the mean KL
to the original over samples, at the positions of the original's own answers, so no labels are needed. An estimate is
right in so far as its summed cost of a group ranks groups as their damage does. Since every group has as many experts
of a bank as any other, what all of them share cancels: neither shrinkage nor the unit of a bank's costs matters, and
the costs of methods that do not compare across banks are divided by their bank's mean.

Shrinkage, and what a ranking is worth, are seen in *trials*: allocations of the best-ranking estimates, of the paper's
and of uniform bits at the same size, measured on the same samples. The choice is made of them
(`check_choice`).

One pass over the samples per group, trial and width of the anchor. Rounding is done in passing (`rounded_forward`), so
a model that fills memory, or lies on disk, can be checked. What was measured is kept, and a check that was stopped goes
on from there.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mode_core import __version__
from mode_core.comparison.bootstrap import Resamples, bounds
from mode_core.comparison.check_choice import UNIFORM, chosen
from mode_core.comparison.items import PassCost, PreparedItems
from mode_core.comparison.rounded_forward import RoundedInPassing
from mode_core.comparison.settings import CheckSettings
from mode_core.comparison.store import Store
from mode_core.errors import CheckError
from mode_core.importance import METHODS, cost_table
from mode_core.importance.bias import spearman
from mode_core.jobs import Cancel, ProgressHook, Reporter
from mode_core.modalities import ALL, MODALITIES, UNRANKED
from mode_core.models.answering import own_answers
from mode_core.prediction import Anchor, Check, Ranking, Trial
from mode_core.prediction.yardstick import fitted
from mode_core.quantization.model_lock import exclusive
from mode_core.quantization.widths import DROPPED, UNTOUCHED
from mode_core.request import AllocationRequest, Quantizer
from mode_core.runs.run import CHECK_FILE, Run
from mode_core.samples import Sample
from mode_core.statistics import ExpertStatistics

if TYPE_CHECKING:
    from mode_core.models import LoadedModel

Bits = Mapping[str, np.ndarray]
PAPER = "mode"
HIGHEST = 4  # widths above are not tried: they hardly hurt
RESAMPLES = 1000


@dataclass
class _Work:
    """Everything that measuring needs, and what has been measured."""

    loaded: LoadedModel
    statistics: ExpertStatistics
    settings: CheckSettings
    items: PreparedItems
    rounded: RoundedInPassing
    store: Store
    reporter: Reporter
    widths: tuple[int, ...]
    low: int
    methods: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.methods = tuple(
            name for name, method in METHODS.items() if method.available(self.statistics) and method.group != "floor"
        )

    def kl(self, bits: Bits, what: str) -> np.ndarray:
        """KL of every sample with these bits, float64 `[n]`; measured once."""
        key = self.store.key(bits)
        if key not in self.store:
            with self.rounded.applied(bits):
                self.store.put(key, self.items.measure())
        self.reporter.step(what)
        return self.store[key].kl.astype(float)

    def request(self, method: str, scope: str, shrinkage: float, average_bits: float) -> AllocationRequest:
        return AllocationRequest(method, scope=scope, shrinkage=shrinkage, widths=self.widths, budget=average_bits)


def widths_of(statistics: ExpertStatistics, settings: CheckSettings) -> tuple[tuple[int, ...], int]:
    """The widths that are tried, and the low width of the groups.

    Raises:
        CheckError: statistics with a single width, or a low width that was not measured.
    """
    widths = tuple(width for width in statistics.bits if DROPPED < width <= HIGHEST)
    low = settings.low_bits or (2 if 2 in widths else min(widths, default=0))
    if len(widths) < 2 or low not in widths:
        raise CheckError(
            f"A check needs damage measured at two widths of 1 to {HIGHEST} bits or more, the groups' {low} bits among "
            f"them; these statistics have {statistics.bits}."
        )
    return widths, low


def passes_of(statistics: ExpertStatistics, settings: CheckSettings) -> int:
    """How many times the samples go through the model, at most."""
    widths, _ = widths_of(statistics, settings)
    tried = [bits for bits in settings.average_bits if widths[0] <= bits <= widths[-1]]
    trials = len(tried) * (1 + len(settings.shrinkage) * (settings.best + 1))
    return settings.groups + len(widths) + trials


def groups_of(statistics: ExpertStatistics, count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Random halves of every bank: bank → bool `[G, E]`, true for E // 2 experts of each row."""
    random, groups = np.random.default_rng(seed), {}
    for bank in statistics:
        order = random.permuted(np.tile(np.arange(bank.shape.experts), (count, 1)), axis=1)
        groups[bank.name] = order < bank.shape.experts // 2
    return groups


def predicted_damage(
    statistics: ExpertStatistics, method: str, groups: Mapping[str, np.ndarray], width: int
) -> np.ndarray:
    """Summed cost of each group at a width, `[G]`; costs that do not compare across banks in means of their bank."""
    signal = (*statistics.signals, UNRANKED)[0]
    costs = cost_table(statistics, method, bits=(width,), signal=signal)
    each = {name: table[:, 0] for name, table in costs.items()}
    if not METHODS[method].comparable:
        each = {name: own / own.mean() if own.mean() > 0 else own for name, own in each.items()}
    return sum(groups[name] @ own for name, own in each.items())


def check_cost(loaded: LoadedModel, samples: Sequence[Sample], statistics: ExpertStatistics, settings: CheckSettings):
    """What `check` would cost: a `PassCost`; runs one batch twice, the second time by the clock."""
    return PassCost.timed(loaded, samples, settings.batch_size, passes_of(statistics, settings))


def check(
    loaded: LoadedModel,
    statistics: ExpertStatistics,
    samples: Sequence[Sample],
    settings: CheckSettings | None = None,
    work: str | Path | None = None,
    progress: ProgressHook | None = None,
    cancel: Cancel | None = None,
) -> Check:
    """Measure groups, an anchor and trials on these samples; see the head of this file. Say the cost first.

    Args:
        statistics: of the same model; all its methods are judged.
        samples: better not those of the calibration; answers are not looked at.
        work: folder where every measurement is kept, to go on from after a stop (None: nowhere).

    Memory: `RoundedInPassing`, `PreparedItems`, and three numbers per sample and pass.

    Raises:
        CheckError: statistics that cannot be checked. SettingsError: no samples. Cancelled: a stop was asked for.
    """
    began, settings = time.monotonic(), settings or CheckSettings()
    widths, low = widths_of(statistics, settings)
    quantizer = Quantizer().fitted(statistics)
    folder = None if work is None else Path(work)
    with exclusive(loaded):
        asked = own_answers(loaded, samples, settings.answer_tokens, settings.batch_size, cancel)
    items = PreparedItems(loaded, asked, settings.batch_size, progress, cancel)
    grid = (widths, quantizer.group_size, quantizer.symmetric, None if folder is None else folder / "grids")
    rounded = RoundedInPassing(loaded, *grid, progress, cancel)
    ground = {"model": loaded.revision, "dtype": str(loaded.dtype), "items": items.digest(), "grid": quantizer.digest}
    store = Store(folder, ground)
    reporter = Reporter(progress, passes_of(statistics, settings), cancel)
    doing = _Work(loaded, statistics, settings, items, rounded, store, reporter, widths, low)
    found = _found(doing, {
        "model": loaded.name,
        "revision": loaded.revision,
        "settings": settings.to_dict(),
        "low_bits": low,
        "widths": list(widths),
        "quantizer": quantizer.to_dict(),
        "items": ground["items"],
        "version": __version__,
    })  # fmt: skip
    return replace(found, info=dict(found.info) | {"seconds": round(time.monotonic() - began, 1)})


def check_run(
    run: Run,
    loaded: LoadedModel,
    samples: Sequence[Sample],
    settings: CheckSettings | None = None,
    progress: ProgressHook | None = None,
    cancel: Cancel | None = None,
    info: Mapping[str, Any] | None = None,
) -> Check:
    """`check` of a run's own statistics, kept as its `check.json` with `info`; one that was stopped goes on.

    Raises:
        CheckError: a run without statistics, or statistics that cannot be checked. BusyError: another process measures
            into the run. Cancelled: a stop was asked for.
    """
    with run.locked():
        if run.statistics is None:
            raise CheckError(f"The run {run.name} holds no statistics yet; finish its calibration first.")
        work = run.path / "check"
        found = check(loaded, run.statistics, samples, settings, work, progress, cancel)
        found = replace(found, info=dict(found.info) | dict(info or {}))
        found.save(run.path / CHECK_FILE)
        shutil.rmtree(work)
    return found


def _found(work: _Work, info: dict[str, Any]) -> Check:
    modalities = work.items.modalities
    masks = {kind: modalities == kind for kind in MODALITIES} | {ALL: np.ones(len(modalities), dtype=bool)}
    masks = {kind: mask for kind, mask in masks.items() if mask.any()}
    groups = groups_of(work.statistics, work.settings.groups, work.settings.seed)
    kl = np.stack([work.kl(bits, "groups of experts") for bits in _group_bits(groups, work.low)])
    predicted = {name: predicted_damage(work.statistics, name, groups, work.low) for name in work.methods}
    redrawn = Resamples(modalities, 1, RESAMPLES, work.settings.seed)
    rankings = _rankings(kl, predicted, masks, redrawn, work.settings.seed)
    uniform = {width: _everywhere(work.statistics, width) for width in work.widths}
    anchor = Anchor.of({width: work.kl(bits, "uniform widths") for width, bits in uniform.items()}, modalities,
                       {"from": "check", "items": info["items"], "quantizer": info["quantizer"]})  # fmt: skip
    tried = list(_trials(work, rankings, masks, redrawn))
    trials = tuple(trial for trial, _ in tried)
    choice = chosen(tried, rankings, redrawn, masks[ALL])
    measured = [
        (work.request(one.method, one.scope, one.shrinkage, one.average_bits).solve(work.statistics).bits, one.kl)
        for one in trials
        if one.method != UNIFORM
    ]
    info |= {"samples": {kind: int(mask.sum()) for kind, mask in masks.items()}}
    return Check(
        {kind: tuple(kl[:, mask].mean(axis=1).tolist()) for kind, mask in masks.items()},
        {name: tuple(own.tolist()) for name, own in predicted.items()},
        rankings,
        trials,
        choice,
        fitted(work.statistics, choice.method, anchor, measured),
        info,
    )


def _group_bits(groups: Mapping[str, np.ndarray], low: int) -> Iterator[dict[str, np.ndarray]]:
    for row in range(len(next(iter(groups.values())))):
        yield {name: np.where(chosen[row], low, UNTOUCHED) for name, chosen in groups.items()}


def _everywhere(statistics: ExpertStatistics, width: int) -> dict[str, np.ndarray]:
    return {bank.name: np.full(bank.shape.experts, width) for bank in statistics}


def _rankings(
    kl: np.ndarray, predicted: Mapping[str, np.ndarray], masks: Mapping[str, np.ndarray], redrawn: Resamples, seed: int
) -> tuple[Ranking, ...]:
    """Best first by all samples; intervals redraw groups, and samples within their kind."""
    random, count = np.random.default_rng(seed), len(kl)
    picked = random.integers(0, count, [RESAMPLES, count])
    rankings = []
    for kind, mask in masks.items():
        again = np.take_along_axis(redrawn.of_draws(kl.astype(np.float32), mask).T, picked, axis=1)  # [R, G]
        for name, said in predicted.items():
            point = float(spearman(said, kl[:, mask].mean(axis=1)))
            if np.isfinite(point):
                low, high = bounds(spearman(said[picked], again))
                rankings.append(Ranking(name, kind, point, float(low), float(high)))
    worth = {one.method: -one.spearman for one in rankings if one.modality == ALL}
    return tuple(sorted(rankings, key=lambda one: (worth[one.method], one.method, one.modality)))


def _trials(
    work: _Work, rankings: Sequence[Ranking], masks: Mapping[str, np.ndarray], redrawn: Resamples
) -> Iterator[tuple[Trial, np.ndarray]]:
    """With the KL of every sample, `[n]`."""
    best = [one.method for one in rankings if one.modality == ALL][: work.settings.best]
    for average in work.settings.average_bits:
        if not work.widths[0] <= average <= work.widths[-1]:
            continue
        alike = work.request(UNIFORM, "bank", 0.0, average).solve(work.statistics)
        level = work.kl(alike.bits, "trials")
        yield _trial((UNIFORM, "bank", 0.0, average), level, level, masks, redrawn), level
        for method in dict.fromkeys((*best, PAPER)):
            for shrinkage in work.settings.shrinkage:
                asked = (method, METHODS[method].scopes[0], shrinkage, average)
                own = work.kl(work.request(*asked).solve(work.statistics).bits, "trials")
                yield _trial(asked, own, level, masks, redrawn), own


def _trial(
    asked: tuple[str, str, float, float],
    own: np.ndarray,
    level: np.ndarray,
    masks: Mapping[str, np.ndarray],
    redrawn: Resamples,
) -> Trial:
    tiny = 1e-12
    again = redrawn.of_draws(np.stack([own, level]).astype(np.float32), masks[ALL])
    low, high = bounds((again[0] + tiny) / (again[1] + tiny))
    kl = {kind: float(own[mask].mean()) for kind, mask in masks.items()}
    return Trial(*asked, kl, float((own.mean() + tiny) / (level.mean() + tiny)), float(low), float(high))
