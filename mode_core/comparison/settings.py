"""What is compared: one frozen object that checks itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from mode_core.errors import SettingsError
from mode_core.importance import METHODS
from mode_core.statistics import ExpertStatistics

AVERAGE_BITS = (4.0, 3.5, 3.0, 2.75, 2.5, 2.25, 2.0, 1.75)
FLOORS_AND_RIVALS = ("frequency", "uniform", "mode")  # what every method is set against in pairs

# Methods whose natural budget is one for the whole model (costs in the model's own loss, or made to compare across
# banks). All others keep a budget per bank, as the paper does. The second scope is measured for comparison.
MODEL_WIDE = ("fisher", "mode_fisher", "soft_fisher", "mode_soft_fisher", "hessian_trace", "mode_output")
BOTH_SCOPES = ("fisher", "mode_fisher", "mode_soft_fisher", "mode_output")


@dataclass(frozen=True)
class ComparisonSettings:
    """Settings of one comparison.

    `methods`: names of `METHODS`; empty: all that the statistics allow. `average_bits`: budgets, mean bits of the
    experts' weights, all over the same `widths`. `truth_bits`: widths at which every expert is quantized alone, to
    see what it is really worth; empty: not measured. `key_ratio`, `signal`, `vision_weight`: as in `cost_table`.
    `resamples` of the bootstrap, from `seed`. `batch_size` items go through the model together.

    Raises:
        SettingsError: a setting that makes no sense, with what is allowed.
    """

    methods: tuple[str, ...] = ()
    average_bits: tuple[float, ...] = AVERAGE_BITS
    widths: tuple[int, ...] = (1, 2, 3, 4)
    quantizer: str = "rtn"
    group_size: int = 128
    symmetric: bool = True
    truth_bits: tuple[int, ...] = (2, 1)
    key_ratio: float = 0.20
    signal: str = "text_attention"
    vision_weight: float = 1.0
    batch_size: int = 64
    resamples: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("methods", "average_bits", "widths", "truth_bits"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if unknown := [name for name in self.methods if name not in METHODS]:
            raise SettingsError(f"There is no importance method {unknown[0]!r}; choose among: {', '.join(METHODS)}.")
        if not self.widths or list(self.widths) != sorted(set(self.widths)):
            raise SettingsError(f"widths must be different and rising; got {self.widths}.")
        low, high = self.widths[0], self.widths[-1]
        if not self.average_bits or not all(low <= bits <= high for bits in self.average_bits):
            raise SettingsError(
                f"average_bits must lie in [{low}, {high}] for widths {self.widths}; got {self.average_bits}."
            )
        if outside := set(self.truth_bits) - set(self.widths):
            raise SettingsError(f"truth_bits {sorted(outside)} are not among the widths {self.widths}.")
        if self.batch_size < 1 or self.resamples < 100:
            raise SettingsError(
                f"batch_size must be at least 1 and resamples at least 100; got {self.batch_size}, {self.resamples}."
            )

    def fitted(self, statistics: ExpertStatistics) -> ComparisonSettings:
        """The same, with the methods that these statistics allow where none were named.

        Raises:
            ImportanceError: a method was named that needs what calibration did not measure.
        """
        for name in self.methods:
            METHODS[name].check(statistics)
        possible = tuple(name for name, method in METHODS.items() if method.available(statistics))
        return replace(self, methods=self.methods or possible)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def scopes_of(method: str) -> tuple[str, ...]:
    """Scopes in which a method is measured, its natural one first."""
    natural = "model" if method in MODEL_WIDE else "bank"
    return (natural, "bank") if method in BOTH_SCOPES else (natural,)
