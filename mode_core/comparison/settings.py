"""What is compared, and what is checked: frozen objects that check themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mode_core.errors import SettingsError
from mode_core.importance import METHODS
from mode_core.request import AllocationRequest, Quantizer
from mode_core.settings import Settings, setting
from mode_core.statistics import ExpertStatistics

AVERAGE_BITS = (4.0, 3.5, 3.0, 2.75, 2.5, 2.25, 2.0, 1.75)
AGAINST = ("frequency", "uniform", "mode")  # what every method is set against in pairs


@dataclass(frozen=True)
class ComparisonSettings(Settings):
    """Settings of one comparison.

    `request` is what every method is asked with, each with its own name, scope, counts and budget in its place;
    `quantizer` rounds what all of them are given. `methods`: names of `METHODS`; empty: all that the statistics allow.
    `average_bits`: budgets, mean bits of the experts' weights. `shrinkage`: how far costs are drawn to the mean of
    their bank, every value for every method but the floors, which it would not change. `truth_bits`: widths at which
    every expert is quantized alone, to see what it is really worth; empty: not measured. `resamples` of the bootstrap,
    from `seed`. `batch_size` items go through the model together.

    Raises:
        SettingsError: a setting that makes no sense, with what is allowed.
    """

    methods: tuple[str, ...] = setting((), "--methods", "importance estimates", nargs="+", unset="all that can be")
    average_bits: tuple[float, ...] = setting(AVERAGE_BITS, "--average-bits", "budgets", type=float, nargs="+")
    shrinkage: tuple[float, ...] = setting(
        (0.0,), "--shrinkage", "0 to 1: how far costs are drawn to the mean of their bank", type=float, nargs="+"
    )
    truth_bits: tuple[int, ...] = setting(
        (2, 1), "--truth-bits", "widths at which every expert is also quantized alone; nothing: not at all",
        type=int, nargs="*",
    )  # fmt: skip
    batch_size: int = setting(64, "--batch-size", "items per forward pass", least=1, type=int)
    resamples: int = setting(2000, "--resamples", "of the bootstrap", least=100, type=int)
    seed: int = 0
    request: AllocationRequest = AllocationRequest(widths=(1, 2, 3, 4))
    quantizer: Quantizer = Quantizer()

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, kind in (("request", AllocationRequest), ("quantizer", Quantizer)):
            if isinstance(given := getattr(self, name), Mapping):
                object.__setattr__(self, name, kind.from_dict(given))
        for name in ("methods", "average_bits", "shrinkage", "truth_bits"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if unknown := [name for name in self.methods if name not in METHODS]:
            raise SettingsError(f"There is no importance method {unknown[0]!r}; choose among: {', '.join(METHODS)}.")
        widths = self.request.widths
        if not self.average_bits or not all(widths[0] <= bits <= widths[-1] for bits in self.average_bits):
            raise SettingsError(
                f"average_bits must lie in [{widths[0]}, {widths[-1]}] for widths {widths}; got {self.average_bits}."
            )
        if not self.shrinkage or len(set(self.shrinkage)) < len(self.shrinkage):
            raise SettingsError(f"shrinkage must be one or more different numbers; got {self.shrinkage}.")
        for level in self.shrinkage:
            replace(self.request, shrinkage=level)  # refuses what is no share
        if outside := set(self.truth_bits) - set(widths):
            raise SettingsError(f"truth_bits {sorted(outside)} are not among the widths {widths}.")

    def fitted(self, statistics: ExpertStatistics) -> ComparisonSettings:
        """The same on these statistics' grid, with the methods that they allow where none were named.

        Raises:
            ImportanceError: a method was named that needs what calibration did not measure.
        """
        for name in self.methods:
            METHODS[name].check(statistics)
        possible = tuple(name for name, method in METHODS.items() if method.available(statistics))
        return replace(self, methods=self.methods or possible, quantizer=self.quantizer.fitted(statistics))

    def levels(self, method: str) -> tuple[float, ...]:
        """The shrinkages that a method is measured at."""
        return (0.0,) if METHODS[method].group == "floor" else self.shrinkage

    def asked(self, method: str, scope: str, average_bits: float, shrinkage: float = 0.0) -> AllocationRequest:
        """What one method is asked for: with the counts of its authors, where widths and budget leave room for them."""
        request = replace(
            self.request, method=method, scope=scope, shrinkage=shrinkage, budget=average_bits, measure="bits"
        )
        counts = {width: count for width, count in METHODS[method].counts.items() if width in request.widths}
        inside = request.widths[0] < average_bits < request.widths[-1]
        return replace(request, at_least=tuple(counts.items())) if counts and inside else request


@dataclass(frozen=True)
class CheckSettings(Settings):
    """Settings of a check.

    `groups`: random groups; `low_bits`: their width (0: 2 bits, or the lowest that was measured). `best`: how many of
    the best-ranking estimates are tried, at each of `shrinkage` and `average_bits` (those within the measured widths up
    to 4). `answer_tokens`: most tokens of the original's own answers. `batch_size` samples go through the model
    together. All that is random comes from `seed`.

    Raises:
        SettingsError: a setting that makes no sense, with what is allowed.
    """

    groups: int = setting(60, "--groups", "random groups of experts to measure", least=8, type=int)
    low_bits: int = setting(0, "--low-bits", "their width", least=0, type=int, unset="2, or the lowest measured")
    best: int = setting(
        3, "--best", "how many of the best-ranking estimates are tried as allocations", least=1, type=int
    )
    shrinkage: tuple[float, ...] = setting((0.0, 0.5), "--shrinkage", "of those trials", type=float, nargs="+")
    average_bits: tuple[float, ...] = setting((3.0, 2.5), "--average-bits", "of those trials", type=float, nargs="+")
    answer_tokens: int = setting(16, "--answer-tokens", "most tokens of the original's own answers", least=1, type=int)
    batch_size: int = setting(32, "--batch-size", "samples per forward pass", least=1, type=int)
    seed: int = setting(0, "--seed", "of the groups", type=int)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("shrinkage", "average_bits"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.shrinkage or not all(0 <= level <= 1 for level in self.shrinkage):
            raise SettingsError(f"shrinkage must be numbers in [0, 1]; got {self.shrinkage}.")
