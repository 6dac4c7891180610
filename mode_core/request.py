"""What a person asks for, made once, handed on whole and written down whole: which expert shall get how many bits.

`AllocationRequest` says by which rule and within which budget; what those bits turn into is said by a `Quantizer`. Both
check themselves at birth, come back from their dictionary and from their command line, and stand in records, manifests
and caches as they are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mode_core.allocation import SCOPES, UNITS, Allocation, Price, Solver, prices
from mode_core.errors import ImportanceError, SettingsError
from mode_core.importance import METHODS, CostTable, cost_table
from mode_core.importance.costs import check_settings
from mode_core.importance.projections import by_projection
from mode_core.modalities import KEY_RATIO, SIGNAL, UNRANKED
from mode_core.quantization.settings import GptqSettings, Quantizer
from mode_core.quantization.widths import DROPPED, UNTOUCHED, WIDTHS
from mode_core.settings import Settings, setting
from mode_core.statistics import ExpertStatistics

__all__ = ["AllocationRequest", "GptqSettings", "Quantizer"]

Pins = tuple[tuple[int, int, int], ...]  # bank number, expert, bits
Counts = tuple[tuple[int, int], ...]  # width, number of units
LATER = {"traffic": "", "audio_weight": 1.0}  # fields that the first requests did not have, with their defaults
MEASURES = {"bits": ("--average-bits", 1.0), "bytes": ("--budget-mb", 1e6), "model_bytes": ("--model-mb", 1e6)}


def _counted(texts: Iterable[str]) -> Counts:
    """`["3=1", "2=4"]` → ((2, 4), (3, 1))."""
    return tuple(sorted((int(width), int(count)) for width, count in (text.split("=") for text in texts)))


def _pinned(texts: Iterable[str]) -> Pins:
    """`["0.5=4"]` → ((0, 5, 4),)."""
    pins = []
    for text in texts:
        place, width = text.split("=")
        bank, dot, expert = place.partition(".")
        if not dot:
            raise SettingsError(text)
        pins.append((int(bank), int(expert), int(width)))
    return tuple(sorted(pins))


def _count_setting(name: str, words: str) -> Any:
    return setting(
        (), f"--at-{name}", f"{words} units at a width, e.g. 3=1",
        lambda counts: [f"{width}={count}" for width, count in counts],
        nargs="+", metavar="BITS=COUNT", read=_counted,
    )  # fmt: skip


@dataclass(frozen=True)
class AllocationRequest(Settings):
    """Which expert gets how many bits: by which importance estimate, within which budget, under which constraints.

    `budget` is in the unit of `measure`: average "bits" of the experts' weights, "bytes" of all packed experts, or
    "model_bytes" of the whole model. `pins` are (bank number, expert, bits), `at_least` and `at_most` (width, count);
    `traffic` is the digest of a profile whose frequencies stand in the statistics (`mode_core.traffic.with_traffic`);
    all else is as in `cost_table` and `allocate`. Whether the budget can be met only the statistics tell.

    Raises:
        SettingsError: a setting that makes no sense, with the value and what is allowed.
    """

    method: str = setting("mode", "--method", "importance estimate")
    key_ratio: float = setting(KEY_RATIO, "--key-ratio", "share of vision tokens kept as key tokens", type=float)
    signal: str = setting(SIGNAL, "--signal", "redundancy signal")
    vision_weight: float = setting(1.0, "--vision-weight", "weight of vision against text, the paper's α", type=float)
    audio_weight: float = setting(1.0, "--audio-weight", "weight of audio against text, beside α", type=float)
    shrinkage: float = setting(
        0.0, "--shrinkage", "0 to 1: how far an expert's cost is drawn to the mean of its bank", type=float
    )
    min_support: int = setting(
        1, "--min-support", "fewest tokens that must have reached an expert for its damage to count as measured",
        type=int, metavar="TOKENS",
    )  # fmt: skip
    widths: tuple[int, ...] = setting((2, 3, 4), "--bits", "allowed widths", type=int, nargs="+")
    scope: str = setting("bank", "--scope", "one budget per bank (the paper's) or for the model", choices=SCOPES)
    unit: str = setting("expert", "--unit", "what shares one width", choices=UNITS)
    budget: float = 3.0
    measure: str = "bits"
    equality: bool = setting(
        False, "--equality", "spend the budget exactly, as the paper's solver does", lambda _: [], action="store_true"
    )
    at_least: Counts = _count_setting("least", "fewest")
    at_most: Counts = _count_setting("most", "most")
    pins: Pins = setting(
        (), "--pin", "experts whose width you choose, banks and experts counted from 0, e.g. 0.5=4",
        lambda pins: [f"{bank}.{expert}={bits}" for bank, expert, bits in pins],
        nargs="+", action="extend", metavar="BANK.EXPERT=BITS", read=_pinned,
    )  # fmt: skip
    traffic: str = ""

    def __post_init__(self) -> None:
        for name in ("at_least", "at_most", "pins"):
            given = getattr(self, name) or ()
            rows = given.items() if isinstance(given, Mapping) else given
            object.__setattr__(self, name, tuple(sorted(tuple(int(number) for number in row) for row in rows)))
        object.__setattr__(self, "widths", tuple(sorted(self.widths)))
        check_settings(self.method, self.key_ratio, self.vision_weight, self.min_support, self.shrinkage,
                       self.audio_weight)  # fmt: skip
        offered = (DROPPED, *WIDTHS, UNTOUCHED)
        if not self.widths or len(set(self.widths)) < len(self.widths) or not set(self.widths) <= set(offered):
            raise SettingsError(f"widths must be different ones of {offered}; got {self.widths}.")
        for name, allowed in (("scope", SCOPES), ("unit", UNITS), ("measure", tuple(MEASURES))):
            if getattr(self, name) not in allowed:
                raise SettingsError(f"{name} must be one of {', '.join(allowed)}; got {getattr(self, name)!r}.")
        if not math.isfinite(self.budget) or self.budget < 0:
            raise SettingsError(f"budget must be a number of at least 0, in {self.measure}; got {self.budget!r}.")
        held: dict[tuple[int, int], int] = {}
        for bank, expert, bits in self.pins:
            if min(bank, expert, bits) < 0 or held.setdefault((bank, expert), bits) != bits:
                raise SettingsError(
                    f"pins must name an expert once, by numbers of at least 0; got bank {bank}, expert {expert} at "
                    f"{bits} bits{'' if bits < 0 else f' and {held.get((bank, expert), bits)}'}. Keep one of them."
                )
        object.__setattr__(self, "pins", tuple(dict.fromkeys(self.pins)))
        if self.traffic and not re.fullmatch("[0-9a-f]{12}", self.traffic):
            raise SettingsError(
                f"traffic must be the digest of a profile, 12 of 0-9 and a-f; got {self.traffic!r:.30}."
            )

    def to_dict(self) -> dict[str, Any]:
        """See `Settings`; what came later is told where it is not the default, so that digests from before it stay."""
        return {name: value for name, value in super().to_dict().items() if value != LATER.get(name, ...)}

    def to_arguments(self) -> list[str]:
        """See `Settings`; a size in MB with six places, so that it comes back to the byte."""
        flag, size = MEASURES[self.measure]
        budget = [] if (self.budget, self.measure) == (3.0, "bits") else [
            flag, repr(float(self.budget)) if self.measure == "bits" else f"{self.budget / size:.6f}"
        ]  # fmt: skip
        return super().to_arguments() + budget

    @property
    def costs_alone(self) -> AllocationRequest:
        """What the costs depend on, all else on its default: requests that agree in it have the same costs."""
        return AllocationRequest(
            self.method, **self._followed, shrinkage=self.shrinkage, min_support=self.min_support, widths=self.widths,
            traffic=self.traffic,
        )  # fmt: skip

    @property
    def unbudgeted(self) -> AllocationRequest:
        """The same without the budget, and what its method does not look at: what a `Solver` is prepared for."""
        return replace(self, **self._followed, budget=3.0, measure="bits")

    @property
    def _followed(self) -> dict[str, Any]:
        """What the method's costs follow, and all else where no statistics can be without it."""
        plain = {"key_ratio": KEY_RATIO, "signal": UNRANKED, "vision_weight": 1.0, "audio_weight": 1.0}
        return plain | {name: getattr(self, name) for name in METHODS[self.method].follows}

    def costs(self, statistics: ExpertStatistics, leave_out_fold: int | None = None, seed: int = 0) -> CostTable:
        """Predicted damage of every expert at every width: bank → `[E, B]`; raises as `cost_table` does, and where the
        statistics do not hold the traffic that is asked for."""
        if self.traffic:
            self._check_traffic(statistics.settings)
        return cost_table(
            statistics, self.method, self.key_ratio, self.signal, self.vision_weight, self.widths, self.min_support,
            seed, leave_out_fold, self.shrinkage, self.audio_weight,
        )  # fmt: skip

    def _check_traffic(self, held: Mapping[str, Any]) -> None:
        if held.get("traffic") != self.traffic:
            raise SettingsError(
                f"The frequencies asked for are those of traffic profile {self.traffic}, and these statistics hold "
                f"those of {held.get('traffic') or 'calibration'}; give its trace again, or ask without it."
            )
        if held["traffic_without_vision"] and self.vision_weight and "vision_weight" in METHODS[self.method].follows:
            raise ImportanceError(
                "The trace holds no vision tokens, so it does not say which experts they choose; set the weight of "
                "vision (--vision-weight) to 0."
            )

    def solver(
        self,
        statistics: ExpertStatistics,
        quantizer: Quantizer | None = None,
        costs: CostTable | None = None,
        sizes: Mapping[str, np.ndarray] | None = None,
    ) -> Solver:
        """Everything but the budget, prepared; `costs` and `sizes` (by `quantizer`) where they are known already."""
        split = "projection" in self.unit
        table = self.costs(statistics) if costs is None else costs
        if sizes is None:
            sizes = (quantizer or Quantizer()).fitted(statistics).sizes(statistics, self.widths, split)
        return Solver(
            by_projection(table, statistics) if split else table,
            self.widths,
            self.scope,
            self.unit,
            self.equality,
            dict(self.at_least) or None,
            dict(self.at_most) or None,
            self.pinned(statistics),
            sizes,
        )

    def pinned(self, statistics: ExpertStatistics) -> dict[str, dict[int, int]] | None:
        """The pins by the names of the banks, as `allocate` takes them; None without pins.

        Raises:
            SettingsError: a bank that the model does not have.
        """
        names = list(statistics.banks)
        wishes: dict[str, dict[int, int]] = {}
        for bank, expert, width in self.pins:
            if bank >= len(names):
                raise SettingsError(f"pins name bank {bank}; the model has the banks 0 to {len(names) - 1}.")
            wishes.setdefault(names[bank], {})[expert] = width
        return wishes or None

    def within(self, solver: Solver, quantizer: Quantizer, fixed_bytes: int = 0) -> Allocation:
        """What this budget buys of a prepared problem; the allocation carries the request and the quantizer.

        `fixed_bytes`: under a budget of the whole model, what is not a routed expert (`quantization.rest_bytes`).
        """
        if self.measure == "bits":
            allocation = solver.solve(self.budget)
        else:
            fixed = fixed_bytes if self.measure == "model_bytes" else 0
            allocation = solver.solve(None, round(self.budget), fixed)
        carried = {"request": self.to_dict(), "quantizer": quantizer.to_dict()}
        return replace(allocation, settings=dict(allocation.settings) | carried)

    def solve(
        self, statistics: ExpertStatistics, quantizer: Quantizer | None = None, fixed_bytes: int = 0
    ) -> Allocation:
        """The exact allocation, proven; arguments as in `within`.

        Raises:
            ImportanceError, AllocationError: statistics that cannot answer it, or a budget that cannot be met, with
                the feasible range.
        """
        quantizer = (quantizer or Quantizer()).fitted(statistics)
        return self.within(self.solver(statistics, quantizer), quantizer, fixed_bytes)

    def prices(
        self, statistics: ExpertStatistics, quantizer: Quantizer | None = None, fixed_bytes: int = 0
    ) -> list[Price]:
        """The same asked for at every unit and scope; arguments as in `solve`."""
        asked = (statistics, quantizer, fixed_bytes)
        return prices(lambda unit, scope: replace(self, unit=unit, scope=scope).solve(*asked))

    def fitted(self, statistics: ExpertStatistics) -> AllocationRequest:
        """The same as these statistics can have it: widths that were measured (all of them where none was), pins on
        experts that there are, and the traffic that they hold."""
        widths = tuple(width for width in self.widths if width in statistics.bits) or tuple(sorted(statistics.bits))
        banks = list(statistics)
        pins = tuple(
            (bank, expert, bits)
            for bank, expert, bits in self.pins
            if bank < len(banks) and expert < banks[bank].shape.experts and bits in widths
        )
        fitting: dict[str, Any] = {
            "widths": widths,
            "pins": pins,
            "traffic": str(statistics.settings.get("traffic", "")),
        }
        return self if all(getattr(self, name) == own for name, own in fitting.items()) else replace(self, **fitting)

    @classmethod
    def of(cls, allocation: Allocation, statistics: ExpertStatistics) -> AllocationRequest:
        """What an allocation was asked for with, also where an earlier version wrote it field by field.

        Raises:
            SettingsError: the allocation was not solved by a method (uniform bits, say).
        """
        settings: Mapping[str, Any] = allocation.settings
        if "request" in settings:
            return cls.from_dict(settings["request"])
        if allocation.method not in METHODS or "uniform" in settings:
            raise SettingsError("This allocation was not solved by an importance method: it has no request behind it.")
        names = list(statistics.banks)
        in_bits = "budget_bytes" not in settings
        budget = settings.get("average_bits", allocation.average_bits) if in_bits else settings["budget_bytes"]
        pinned = settings.get("pinned", {})
        told = (
            "key_ratio",
            "signal",
            "vision_weight",
            "audio_weight",
            "min_support",
            "equality",
            "at_least",
            "at_most",
        )
        return cls(
            method=allocation.method, widths=allocation.widths, scope=allocation.scope, unit=allocation.unit,
            budget=budget, measure="bits" if in_bits else "model_bytes" if "fixed_bytes" in settings else "bytes",
            pins=tuple((names.index(bank), int(e), int(b)) for bank, wish in pinned.items() for e, b in wish.items()),
            **{name: settings[name] for name in told if name in settings},
        )  # fmt: skip
