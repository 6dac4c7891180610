"""The comparison itself: prepare once, measure every different allocation once, put it into tables."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from math import comb
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mode_core.comparison.draws import DRAWS, fold_draws
from mode_core.comparison.items import PassCost, PreparedItems
from mode_core.comparison.plan import alone, entries
from mode_core.comparison.ranking import ranking_table, truth_table
from mode_core.comparison.settings import ComparisonSettings
from mode_core.comparison.store import Store
from mode_core.comparison.tables import Measured, score_tables
from mode_core.comparison.width_switch import RoundedExperts
from mode_core.errors import SettingsError
from mode_core.files import LOCK, writing
from mode_core.importance.folds import used_folds
from mode_core.jobs import Cancel, ProgressHook, Reporter
from mode_core.modalities import MODALITIES
from mode_core.runs.evidence import Evidence
from mode_core.runs.run import Run
from mode_core.samples import Sample
from mode_core.statistics import ExpertStatistics
from mode_core.versions import versions

if TYPE_CHECKING:
    from mode_core.models import LoadedModel

HALVES = "half of the folds"  # what the draws of a single run are


def compare(
    loaded: LoadedModel,
    draws: Sequence[ExpertStatistics],
    samples: Sequence[Sample],
    settings: ComparisonSettings,
    work: str | Path,
    calibration: Sequence[Sample] | None = None,
    info: Mapping[str, Any] | None = None,
    progress: ProgressHook | None = None,
    cancel: Cancel | None = None,
) -> Evidence:
    """Measure every method at every budget, from every calibration draw, on the same items and at the same memory.

    Args:
        draws: statistics of the same model, one per calibration draw; see `draws`.
        samples: items with answers, none of them in a calibration.
        work: folder where every measured allocation is kept; a comparison that was stopped goes on from there.
        calibration: samples for quantizers that look at data.
        info: more to note in the evidence (such as the command).

    Equal allocations of different methods or draws are measured once. Time: one forward pass over the items per
    different allocation, and per expert and width of `truth_bits`. Memory: `PreparedItems`, `RoundedExperts`, and
    three numbers per item and allocation.

    Raises:
        SettingsError: draws of different models, or settings that do not fit them. Cancelled: a stop was asked for.
    """
    started = time.monotonic()
    settings = settings.fitted(draws[0])
    _check_draws(draws, loaded)
    items = PreparedItems(loaded, samples, settings.batch_size, progress, cancel)
    rounded = RoundedExperts(loaded, settings.request.widths, settings.quantizer, calibration, progress, cancel)
    ground = {
        "model": loaded.revision,
        "dtype": str(loaded.dtype).removeprefix("torch."),
        "items": items.digest(),
        "quantizer": settings.quantizer.digest,
    }
    store, planned = Store(Path(work), ground), list(entries(draws, settings))
    banks = {name: bank.experts for name, bank in loaded.banks.items()}
    keys = [store.key(entry.allocation.bits) for entry in planned]
    single = {
        (bank, expert, width): alone(banks, bank, expert, width)
        for width in settings.truth_bits
        for bank, experts in banks.items()
        for expert in range(experts)
    }
    wanted = dict(zip(keys, (entry.allocation.bits for entry in planned), strict=True))
    wanted |= {store.key(bits): bits for bits in single.values()}
    before = sum(key in store for key in wanted)
    _measure(wanted, items, rounded, store, progress, cancel)
    key_of = {id(entry): key for entry, key in zip(planned, keys, strict=True)}
    measured = Measured.of(planned, lambda entry: store[key_of[id(entry)]])
    scores, paired = score_tables(
        measured, items.tasks, items.modalities, settings.quantizer.method, settings.resamples, settings.seed
    )
    truth = truth_table({which: store[store.key(bits)] for which, bits in single.items()}, items.modalities)
    ranking = ranking_table(draws, settings, truth, settings.seed)
    facts = {
        "model": loaded.name,
        "revision": loaded.revision,
        "dtype": ground["dtype"],
        "items": ground["items"],
        "settings": settings.to_dict(),
        "draws": len(draws),
        **{f"items_{name}": int((items.modalities == name).sum()) for name in MODALITIES},
        "allocations": len(planned),
        "measured": len(wanted),
        "measured_before": before,
        "seconds": round(time.monotonic() - started, 1),
        "versions": versions(),
    }
    return Evidence(scores, paired, ranking, truth, dict(info or {}) | facts)


def draws_of(run: Run, draws: int = DRAWS) -> tuple[list[ExpertStatistics], str]:
    """A run's own draws and what they are: halves of its folds; where it has too few for that, itself alone."""
    statistics = run.measured()
    folds = len(used_folds(statistics))
    return (fold_draws(statistics, draws), HALVES) if comb(folds, folds // 2) >= draws else ([statistics], "one run")


def compare_cost(
    loaded: LoadedModel, draws: Sequence[ExpertStatistics], samples: Sequence[Sample], settings: ComparisonSettings
) -> PassCost:
    """What `compare` would cost at most; solves every allocation, and runs one batch twice."""
    settings, store = settings.fitted(draws[0]), Store(None, {})
    different = {store.key(entry.allocation.bits) for entry in entries(draws, settings)}
    alone_too = len(settings.truth_bits) * sum(bank.experts for bank in loaded.banks.values())
    return PassCost.timed(loaded, samples, settings.batch_size, len(different) + alone_too)


def compare_into(out: Path, work: Path, *given: Any, **more: Any) -> Evidence:
    """`compare`, with its tables kept in `out`; one that was stopped goes on from `work`. Arguments as of `compare`.

    Raises:
        BusyError: another process writes there. Else as `compare`.
    """
    loaded, draws, samples, settings, *others = given
    out.mkdir(parents=True, exist_ok=True)
    with writing(out / LOCK, f"The evidence in {out}"):
        evidence = compare(loaded, draws, samples, settings, work, *others, **more)
        evidence.save(out)
    return evidence


def _check_draws(draws: Sequence[ExpertStatistics], loaded: LoadedModel) -> None:
    for number, one in enumerate(draws):
        sizes = {bank.name: bank.shape.experts for bank in one}
        if sizes != {name: bank.experts for name, bank in loaded.banks.items()}:
            raise SettingsError(f"Calibration draw {number} is of another model than {loaded.name}: its banks differ.")


def _measure(
    wanted: Mapping[str, Mapping[str, np.ndarray]],
    items: PreparedItems,
    rounded: RoundedExperts,
    store: Store,
    progress: ProgressHook | None,
    cancel: Cancel | None,
) -> None:
    """Measure what the store does not hold yet; each result is on disk before the next is begun.

    Several processes may work on one store with different methods: each skips what another has done meanwhile.
    """
    left = [key for key in wanted if key not in store]
    reporter = Reporter(progress, len(wanted), cancel, done=len(wanted) - len(left))
    for key in left:
        if key not in store:
            with rounded.applied(wanted[key]):
                scores = items.measure()
            store.put(key, scores)
        reporter.step("allocations measured")
