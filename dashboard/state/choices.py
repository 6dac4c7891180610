"""What a person can set, and how it is written into an address and read back; no Streamlit here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from dashboard.words import names
from mode_core.allocation import Allocation
from mode_core.request import AllocationRequest, Quantizer
from mode_core.statistics import ExpertStatistics

BUDGET_UNITS = ("bits", "MB")
LONGEST_TOLD = 80  # characters of a parameter that makes no sense


@dataclass(frozen=True)
class Choices:
    """What a person has set; the defaults here are the paper's: a request, a quantizer, and the state of the screen.

    The request's budget is in average bits. `megabytes` (10^6 bytes of packed experts) is the budget where
    `budget_unit` is "MB"; None takes the size of all experts at those average bits. `gpu` (GiB) and `context` (tokens)
    are what the model must fit in.
    """

    request: AllocationRequest = field(default_factory=AllocationRequest)
    quantizer: Quantizer = field(default_factory=Quantizer)
    budget_unit: str = "bits"
    megabytes: float | None = None
    gpu: int | None = None
    context: int = 8192

    def __post_init__(self) -> None:
        if self.budget_unit not in BUDGET_UNITS:
            raise ValueError(f"budget_unit must be one of {', '.join(BUDGET_UNITS)}; got {self.budget_unit!r}.")
        for name, least, most in (("megabytes", 0, 1e9), ("gpu", 1, 10_000), ("context", 0, 100_000_000)):
            if (value := getattr(self, name)) is not None and not least <= value <= most:
                raise ValueError(f"{name} must lie in [{least}, {most:g}]; got {value}.")

    def get(self, name: str) -> Any:
        """One choice by its name in `PLACES`, or of this object's own."""
        part, own = PLACES.get(name, ("", name))
        return getattr(getattr(self, part) if part else self, own)

    def changed(self, **changes: Any) -> Choices:
        """The same with other choices, each by its name; raises as the part that it belongs to."""
        parts: dict[str, dict[str, Any]] = {"request": {}, "quantizer": {}, "": {}}
        for name, value in changes.items():
            part, own = PLACES.get(name, ("", name))
            parts[part][own] = value
        whole = {part: replace(getattr(self, part), **own) for part, own in parts.items() if part and own}
        return replace(self, **whole, **parts[""])

    def differs(self, other: Choices) -> tuple[str, ...]:
        """Names of the choices that are others there."""
        return tuple(name for name, _, _ in PARAMETERS.values() if self.get(name) != other.get(name))

    def opened(self, allocation: Allocation, statistics: ExpertStatistics) -> Choices:
        """The choices that an allocation was made with, whoever made it; what surrounds it stays as it is.

        Raises:
            ValueError: there is no request behind it (uniform bits, say).
        """
        request = AllocationRequest.of(allocation, statistics)
        quantizer = allocation.settings.get("quantizer")
        chosen = replace(self, quantizer=Quantizer.from_dict(quantizer) if quantizer else self.quantizer)
        if request.measure == "bits":
            return replace(chosen, request=request, budget_unit="bits", megabytes=None)
        size = (request.budget - allocation.settings.get("fixed_bytes", 0)) / 1e6
        return replace(chosen, request=request.unbudgeted, budget_unit="MB", megabytes=size)


# name of a choice on the screen -> (part, field there)
PLACES = {one.name: ("request", one.name) for one in fields(AllocationRequest) if one.name not in ("budget", "measure")}
PLACES |= {"average_bits": ("request", "budget"), "quantizer": ("quantizer", "method")}
PLACES |= {name: ("quantizer", name) for name in ("group_size", "symmetric", "attention_bits", "shared_bits")}


def _rows(text: str) -> tuple[tuple[int, ...], ...]:
    """'0.3.4_1.7.2' → ((0, 3, 4), (1, 7, 2))."""
    return tuple(tuple(int(piece) for piece in part.split(".")) for part in text.split("_"))


def _dotted(rows: tuple[tuple[int, ...], ...]) -> str:
    return "_".join(".".join(map(str, row)) for row in rows)


def _yes(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError(text)
    return text == "yes"


def _yes_no(value: bool) -> str:
    return "yes" if value else "no"


def _short(value: float) -> str:
    return f"{value:.6g}"


# parameter -> (name of the choice, text -> value, value -> text); what a value may be its object says
PARAMETERS: dict[str, tuple[str, Callable[[str], Any], Callable[[Any], str]]] = {
    "ratio": ("key_ratio", lambda text: int(text) / 100, lambda value: f"{100 * value:.0f}"),
    "signal": ("signal", str, str),
    "method": ("method", str, str),
    "alpha": ("vision_weight", float, _short),
    "beta": ("audio_weight", float, _short),
    "shrinkage": ("shrinkage", float, _short),
    "support": ("min_support", int, str),
    "bits": ("average_bits", float, _short),
    "budget": ("budget_unit", str, str),
    "mb": ("megabytes", float, _short),
    "scope": ("scope", str, str),
    "unit": ("unit", str, str),
    "widths": ("widths", lambda text: tuple(map(int, text.split(","))), lambda value: ",".join(map(str, value))),
    "exactly": ("equality", _yes, _yes_no),
    "least": ("at_least", _rows, _dotted),
    "most": ("at_most", _rows, _dotted),
    "pins": ("pins", _rows, _dotted),
    "traffic": ("traffic", str, str),
    "quantizer": ("quantizer", str, str),
    "group": ("group_size", int, str),
    "symmetric": ("symmetric", _yes, _yes_no),
    "attention": ("attention_bits", int, str),
    "shared": ("shared_bits", int, str),
    "gpu": ("gpu", int, str),
    "context": ("context", int, str),
}


ESTIMATE = ("method", "scope", "shrinkage")  # what a run recommends; in the address under the same names


def same_estimate(one: Choices, other: Choices) -> bool:
    """Do both ask for the same method, scope and shrinkage?"""
    return all(one.get(name) == other.get(name) for name in ESTIMATE)


def to_address(chosen: Choices, start: Choices = Choices()) -> dict[str, str]:
    """Parameters of everything that is not the default. An estimate other than that of `start`, which a run recommends,
    always names its method: an address that names none is answered by what is recommended then."""
    plain, follows = Choices(), same_estimate(chosen, start)

    def told(name: str) -> bool:
        if name in ESTIMATE:
            return not follows and (name == "method" or chosen.get(name) != plain.get(name))
        return chosen.get(name) != plain.get(name)

    return {parameter: show(chosen.get(name)) for parameter, (name, _, show) in PARAMETERS.items() if told(name)}


def from_address(parameters: Mapping[str, str]) -> tuple[Choices, list[str]]:
    """Choices from an address, and a sentence for each parameter that makes no sense and was left at its default."""
    chosen, problems = Choices(), []
    for parameter, (name, read, _) in PARAMETERS.items():
        if parameter in parameters:
            try:
                chosen = chosen.changed(**{name: read(parameters[parameter])})
            except ValueError:
                told = f"{parameter}={parameters[parameter]}"
                told = told if len(told) <= LONGEST_TOLD else f"{told[:LONGEST_TOLD]} …"
                problems.append(f"The address says {told}, which is no value for it; left out.")
    return chosen, problems


def describe(settings: Mapping[str, Any]) -> str:
    """Settings kept with a result, in one line: 'MODE, key ratio 20 %, 3 bits on average, widths 2 3 4'.

    `settings` holds a request; of earlier versions its fields one by one.
    """
    told = settings.get("request", settings)
    size = told.get("budget", 0) / 1e6 if told.get("measure", "bits") != "bits" else None
    size = settings.get("megabytes") if settings.get("budget_unit") == "MB" else size
    bits = told.get("budget", told.get("average_bits", 0))
    budget = f"{size:.3g} MB" if size else f"{bits:.4g} bits on average"
    parts = [
        names.method(str(told.get("method", "?"))),
        f"key ratio {100 * told.get('key_ratio', 0):.0f} %",
        budget,
    ]
    parts.append("widths " + " ".join(str(width) for width in told.get("widths", ())))
    parts += [f"frequencies of traffic {told['traffic']}"] if told.get("traffic") else []
    return ", ".join(parts)
