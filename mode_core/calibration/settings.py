"""What a calibration measures: one frozen object that checks itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mode_core.calibration.signals import SIGNALS
from mode_core.quantization.grids import PER_CHANNEL, WIDTHS


@dataclass(frozen=True)
class CalibrationSettings:
    """Settings of one calibration. The defaults are the paper's, with 1 bit measured as well.

    `bits`: widths whose damage is measured. `signals`: what ranks the vision tokens of a sample, names of
    `mode_core.calibration.signals.SIGNALS`. `group_size` (input channels per scale, −1 = whole row) and `symmetric`
    say how weights are rounded. `sensitivity` False counts frequencies only. `batch_size` samples go through the
    model together. `token_scores_for` samples are kept with their pictures and scores, to be looked at. Nothing in
    calibration is random; `seed` is recorded with the run all the same.

    Raises:
        ValueError: the first setting that makes no sense, with what is allowed.
    """

    bits: tuple[int, ...] = (1, 2, 3, 4)
    signals: tuple[str, ...] = ("text_attention",)
    group_size: int = 128
    symmetric: bool = True
    sensitivity: bool = True
    batch_size: int = 4
    token_scores_for: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "bits", tuple(self.bits))
        object.__setattr__(self, "signals", tuple(self.signals))
        if not self.bits or list(self.bits) != sorted(set(self.bits)) or not set(self.bits) <= set(WIDTHS):
            raise ValueError(f"bits must be different widths of {WIDTHS} in rising order; got {self.bits}.")
        if not self.signals or len(set(self.signals)) != len(self.signals) or not set(self.signals) <= set(SIGNALS):
            raise ValueError(f"signals must be different names of {', '.join(SIGNALS)}; got {self.signals}.")
        if self.group_size != PER_CHANNEL and self.group_size < 1:
            raise ValueError(f"group_size must be at least 1, or -1 for the whole row; got {self.group_size}.")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {self.batch_size}.")
        if self.token_scores_for < 0:
            raise ValueError(f"token_scores_for must be 0 or more samples; got {self.token_scores_for}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"bits": list(self.bits), "signals": list(self.signals)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CalibrationSettings:
        """Back from `to_dict`."""
        return cls(**values)

    def measured_with(self) -> dict[str, Any]:
        """What must agree for two statistics to be added; batch size and seed change nothing."""
        return {
            "bits": list(self.bits),
            "signals": list(self.signals),
            "group_size": self.group_size,
            "symmetric": self.symmetric,
            "sensitivity": self.sensitivity,
            "quantizer": "rtn",
        }
