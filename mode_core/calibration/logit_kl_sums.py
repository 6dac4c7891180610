"""What measuring the KL of the answer is asked for, what it would cost, and the sums that it leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mode_core.errors import CalibrationError, SettingsError
from mode_core.models import LoadedModel
from mode_core.statistics import BINS, FOLDS, ExpertStatistics

POSITIONS = ("last", "answers")
KINDS = ("text", "key")


@dataclass(frozen=True)
class LogitKLSettings:
    """What is measured: which vision tokens are key, at which positions KL is taken, and the batch.

    Raises:
        SettingsError: a setting out of range, with what is allowed.
    """

    key_ratio: float = 0.20
    signal: str = "text_attention"
    positions: str = "last"
    batch_size: int = 8

    def __post_init__(self) -> None:
        if self.positions not in POSITIONS:
            raise SettingsError(f"positions must be one of {', '.join(POSITIONS)}; got {self.positions!r}.")
        if not 0 < self.key_ratio <= 1 or round(BINS * self.key_ratio) < 1:
            raise SettingsError(f"key_ratio must lie in (0, 1], in whole per cents; got {self.key_ratio!r}.")
        if self.batch_size < 1:
            raise SettingsError(f"batch_size must be at least 1; got {self.batch_size}.")

    def measured_with(self) -> dict[str, Any]:
        """What must agree for two measurements to be added."""
        return {"key_ratio": float(self.key_ratio), "signal": self.signal, "positions": self.positions}


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
            for kind in KINDS:
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
        """The same statistics with this measurement in them, for `cost_table(…, metric="logit_kl")`.

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
    names = [f"{kind}_logit_kl{end}" for kind in KINDS for end in ("", "_support", "_samples")]
    sums = {bank.name: {name: bank.arrays[name].copy() for name in names} for bank in statistics}
    banks = {
        bank.name: replace(bank, arrays={key: array for key, array in bank.arrays.items() if key not in names})
        for bank in statistics
    }
    settings = dict(statistics.settings)
    found = LogitKL(tuple(statistics.bits), LogitKLSettings(**settings.pop("logit_kl")), sums)
    return replace(statistics, banks=banks, settings=settings), found
