"""How far the model's own answer moves when one expert alone is rounded for the tokens of one modality (paper §5).

    δ_M(e, b) = mean over samples of KL(p ‖ p with expert e at b bits for the tokens of modality M only)

M is text, or the key vision tokens at one key ratio and redundancy signal; tokens of the other modality go through the
expert as it was. p is the distribution of the next token at the last position of the prompt, or, with
`positions="answers"`, at every position of the reference answer (then the mean over these). The mean is over samples
that have tokens of M at all.

Only the bank's output can differ, and only in the rows of tokens that chose the expert, so one pass of the original
tells what every rounded expert would add there: Δ = w·(E_b(x) − E(x)). Each further pass adds one such Δ behind one
bank and reads the logits. Where no token of M chose the expert the answer cannot move, and no pass is made: exact, and
on real batches the larger part of the saving.

What lies before the bank's layer is the same in all its passes and is not computed again, where the family allows it
(see `replay`); this is checked for every layer.

Cost: at most batches × (2 + layers + 2·B·Σ over banks of E) forward passes, or their later parts; `logit_kl_cost` says
how many and how long before. Memory: (1 + B) times the experts' weights, and of one batch what entered every bank and
left every layer: layers × tokens × (3·hidden + 2k) and the vision tower's output; nothing grows with the samples.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mode_core.calibration.logit_kl_batch import Batch, encode, read_logits
from mode_core.calibration.sensitivity import RoundedBank
from mode_core.calibration.settings import CalibrationSettings, LogitKLSettings
from mode_core.errors import CalibrationError
from mode_core.jobs import Cancel, Cancelled, ProgressHook, Reporter
from mode_core.modalities import COUNTED
from mode_core.models import ExpertBank, LoadedModel
from mode_core.quantization.model_lock import exclusive, original
from mode_core.runs.run import Run
from mode_core.samples import Sample
from mode_core.statistics import FOLDS, ExpertStatistics

PASSES_PER_BATCH = 2  # what enters the banks, and the original's distribution; beside one check per layer


@dataclass(frozen=True)
class LogitKLCost:
    """What measuring would take at most: `passes` forward passes, and `seconds` if each took as long as a whole one.

    `seconds_per_pass` was timed on the first batch, so `seconds` is an estimate. It is less where passes begin late.
    """

    passes: int
    seconds: float
    seconds_per_pass: float

    def __str__(self) -> str:
        scales = ((7200, 3600, "hours"), (120, 60, "minutes"), (0, 1, "seconds"))
        unit, called = next((unit, called) for least, unit, called in scales if self.seconds >= least)
        each = f"{self.seconds_per_pass:.3f} s each, estimated"
        return f"at most {self.passes:,} forward passes, at most about {self.seconds / unit:.1f} {called} ({each})"


@dataclass
class LogitKL:
    """Sums of one measurement. `sums[bank]` holds, by name, float64 arrays in folds of the samples:

    `text_logit_kl`, `key_logit_kl` `[fold, E, B]` Σ over samples of KL in nats; `…_support` `[fold, E]` tokens of the
    kind that chose the expert; `…_samples` `[fold]` samples that have such tokens.
    """

    bits: tuple[int, ...]
    settings: LogitKLSettings
    sums: dict[str, dict[str, np.ndarray]]
    samples: list[str] = field(default_factory=list)
    passes: int = 0

    @classmethod
    def empty(cls, loaded: LoadedModel, bits: tuple[int, ...], settings: LogitKLSettings) -> LogitKL:
        """Nothing measured yet."""
        sums = {bank.name: {} for bank in loaded.banks.values()}
        for bank in loaded.banks.values():
            for kind in COUNTED:
                sums[bank.name] |= {
                    f"{kind}_logit_kl": np.zeros([FOLDS, bank.experts, len(bits)]),
                    f"{kind}_logit_kl_support": np.zeros([FOLDS, bank.experts]),
                    f"{kind}_logit_kl_samples": np.zeros(FOLDS),
                }
        return cls(bits, settings, sums)

    def damage(self, bank: str, kind: str) -> np.ndarray:
        """δ of one kind of token: mean KL in nats, `[E, B]`; 0 where no sample has tokens of that kind."""
        sums = self.sums[bank]
        count = sums[f"{kind}_logit_kl_samples"].sum()
        return sums[f"{kind}_logit_kl"].sum(axis=0) / max(count, 1)

    def added_to(self, statistics: ExpertStatistics) -> ExpertStatistics:
        """The same statistics with this measurement in them, for `cost_table(…, method="mode_logit_kl")`.

        Raises:
            CalibrationError: statistics of another model or of other widths.
        """
        if list(statistics.banks) != list(self.sums) or tuple(statistics.bits) != tuple(self.bits):
            raise CalibrationError(
                f"The statistics are of other banks or widths {tuple(statistics.bits)}; KL was measured at {self.bits}."
            )
        banks = {name: replace(bank, arrays=bank.arrays | self.sums[name]) for name, bank in statistics.banks.items()}
        settings = dict(statistics.settings) | {"logit_kl": self.settings.measured_with()}
        return replace(statistics, banks=banks, settings=settings)


def without_kl(statistics: ExpertStatistics) -> tuple[ExpertStatistics, LogitKL | None]:
    """Statistics as calibration alone made them, and the KL that was added to them (without its samples' ids)."""
    if "logit_kl" not in statistics.extras:
        return statistics, None
    names = [f"{kind}_logit_kl{end}" for kind in COUNTED for end in ("", "_support", "_samples")]
    sums = {bank.name: {name: bank.arrays[name].copy() for name in names} for bank in statistics}
    banks = {
        bank.name: replace(bank, arrays={key: array for key, array in bank.arrays.items() if key not in names})
        for bank in statistics
    }
    settings = dict(statistics.settings)
    kl = LogitKL(tuple(statistics.bits), LogitKLSettings(**settings.pop("logit_kl")), sums)
    return replace(statistics, banks=banks, settings=settings), kl


def logit_kl_passes(banks: Collection[ExpertBank], samples: int, widths: int, batch_size: int = 8) -> int:
    """Forward passes that `measure_logit_kl` makes at most for so many samples and widths; nothing is run."""
    layers = len({bank.layer for bank in banks})
    variations = len(COUNTED) * widths * sum(bank.experts for bank in banks)
    return -(-samples // batch_size) * (PASSES_PER_BATCH + 2 * layers + variations)


def logit_kl_cost(
    loaded: LoadedModel,
    samples: Sequence[Sample],
    bits: Sequence[int] = (1, 2, 3, 4),
    settings: LogitKLSettings | None = None,
) -> LogitKLCost:
    """What `measure_logit_kl` would cost; runs the first batch twice, the second time by the clock."""
    settings = settings or LogitKLSettings()
    passes = logit_kl_passes(loaded.banks.values(), len(samples), len(bits), settings.batch_size)
    with exclusive(loaded):
        encoded = encode(loaded, samples[: settings.batch_size], settings)
        read_logits(loaded, encoded)
        began = time.perf_counter()
        read_logits(loaded, encoded)
        each = time.perf_counter() - began
    return LogitKLCost(passes, passes * each, each)


def measure_logit_kl(
    loaded: LoadedModel,
    samples: Sequence[Sample],
    calibration: CalibrationSettings | None = None,
    settings: LogitKLSettings | None = None,
    progress: ProgressHook | None = None,
    cancel: Cancel | None = None,
    kept: LogitKL | None = None,
) -> LogitKL:
    """Measure δ of every expert, width and modality; see the head of this file. Say the cost first (`logit_kl_cost`).

    `calibration` gives widths and grid. `kept` is added to batch by batch where given, so that a caller still has what
    was measured when the work is stopped; samples that it holds already are not measured again.

    Raises:
        CalibrationError: no samples, or a family whose bank's output cannot be changed on the way.
        SampleError: a sample that the processor refuses, or without an answer where `positions` asks for one.
        Cancelled: stopped on request, after the last whole batch.
    """
    calibration, settings = calibration or CalibrationSettings(), settings or LogitKLSettings()
    measured = kept if kept is not None else LogitKL.empty(loaded, calibration.bits, settings)
    left = [sample for sample in samples if sample.id not in set(measured.samples)]
    if not samples:
        raise CalibrationError("There are no samples to measure KL with; give at least one.")
    if heard := [sample.id for sample in samples if sample.audio]:
        raise CalibrationError(
            f"The KL of the answer is measured for text and key vision tokens; {heard[0]} has a sound. Leave it out."
        )
    with original(loaded):
        if any(bank.device.type == "meta" for bank in loaded.banks.values()):
            raise CalibrationError(
                f"Parts of {loaded.name} lie on disk, where the KL of every expert would take days; load it whole."
            )
        rounded = {bank.name: RoundedBank.of(bank, calibration) for bank in loaded.banks.values()}
        batches = [left[n : n + settings.batch_size] for n in range(0, len(left), settings.batch_size)]
        reporter = Reporter(progress, len(batches) * sum(bank.experts for bank in loaded.banks.values()), cancel)
        for number, batch in enumerate(batches, 1):
            _add(measured, Batch(loaded, batch, settings, rounded), reporter, f"KL, batch {number} of {len(batches)}")
    return measured


def _add(found: LogitKL, batch: Batch, reporter: Reporter, what: str) -> None:
    """Measure one batch whole, then add it."""
    fresh = {name: {key: np.zeros_like(array) for key, array in sums.items()} for name, sums in found.sums.items()}
    for seen in batch.seen.values():
        sums = fresh[seen.bank.name]
        for kind, mask in batch.masks(seen).items():
            has = mask.any(dim=1).cpu().numpy()
            np.add.at(sums[f"{kind}_logit_kl_samples"], batch.folds[has], 1.0)
        for expert in range(seen.bank.experts):
            for kind, kl, support in batch.variations(seen, expert):
                np.add.at(sums[f"{kind}_logit_kl_support"][:, expert], batch.folds, support)
                np.add.at(sums[f"{kind}_logit_kl"][:, expert], batch.folds, kl)
            reporter.step(what)
    for name, sums in fresh.items():
        for key, array in sums.items():
            found.sums[name][key] += array
    found.samples += [sample.id for sample in batch.samples]
    found.passes += batch.passes


def add_logit_kl(
    run: Run,
    loaded: LoadedModel,
    samples: Sequence[Sample],
    calibration: CalibrationSettings,
    settings: LogitKLSettings,
    progress: ProgressHook | None = None,
    cancel: Cancel | None = None,
) -> dict[str, Any]:
    """Measure the KL of those samples that calibration measured, and keep it with the run's statistics; says what was.

    Where the run holds KL of the same settings already, only what is missing is measured.

    Raises:
        Cancelled: stopped on request; the batches that were whole are kept.
        CalibrationError, SampleError: as `measure_logit_kl`.
    """
    with run.locked():
        known, began = set(run.statistics.samples), time.monotonic()
        chosen = [sample for sample in samples if sample.id in known]
        _, kept = without_kl(run.statistics)
        if kept is not None and kept.settings.measured_with() == settings.measured_with():
            kept.samples = list(run.info["logit_kl"]["ids"])
        else:
            kept = LogitKL.empty(loaded, calibration.bits, settings)
        try:
            measure_logit_kl(loaded, chosen, calibration, settings, progress, cancel, kept)
        except Cancelled:
            if kept.samples:
                _keep(run, kept, began)
            raise
        return _keep(run, kept, began)


def _keep(run: Run, kept: LogitKL, began: float) -> dict[str, Any]:
    told = {
        "samples": len(kept.samples),
        "passes": kept.passes,
        "seconds": round(time.monotonic() - began, 3),
        **kept.settings.measured_with(),
    }
    run.write_statistics(kept.added_to(run.statistics), logit_kl=told | {"ids": kept.samples})
    return told
