"""What a person can set, and how it is written into an address and read back; no Streamlit here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mode_core.allocation import SCOPES, UNITS
from mode_core.importance import METHODS
from mode_core.quantization.widths import METHOD_NAMES as QUANTIZERS

BUDGET_UNITS = ("bits", "MB")


@dataclass(frozen=True)
class Choices:
    """What a person has set; the defaults are the paper's. `None` for the grid means: as the run was measured.

    `megabytes` (10^6 bytes of packed experts) is the budget where `budget_unit` is "MB"; None takes the size
    of all experts at `average_bits`. `pins` are (bank number, expert, bits). `quantizer`, `attention_bits` and
    `shared_bits` (None: untouched) say how Quantize rounds; `gpu` (GiB) and `context` (tokens) what it must fit in.
    """

    key_ratio: float = 0.20
    signal: str = "text_attention"
    method: str = "mode"
    vision_weight: float = 1.0
    average_bits: float = 3.0
    budget_unit: str = "bits"
    megabytes: float | None = None
    scope: str = "bank"
    unit: str = "expert"
    widths: tuple[int, ...] = (2, 3, 4)
    group_size: int | None = None
    symmetric: bool | None = None
    pins: tuple[tuple[int, int, int], ...] = ()
    quantizer: str = "rtn"
    attention_bits: int | None = None
    shared_bits: int | None = None
    gpu: int | None = None
    context: int = 8192


def _number(text: str, low: float, high: float = math.inf) -> float:
    value = float(text)
    if not low <= value <= high or not math.isfinite(value):
        raise ValueError
    return value


def _one_of(*allowed: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in allowed:
            raise ValueError
        return text

    return read


def _widths(text: str) -> tuple[int, ...]:
    return tuple(sorted({int(_number(part, 0, 16)) for part in text.split(",")}))


def _pins(text: str) -> tuple[tuple[int, int, int], ...]:
    """'0.3.4_1.7.2' → ((0, 3, 4), (1, 7, 2)): bank number, expert, bits."""
    found = []
    for part in text.split("_"):
        bank, expert, bits = (int(_number(piece, 0, 1e6)) for piece in part.split("."))
        found.append((bank, expert, bits))
    return tuple(found)


def _whole(low: int, high: int) -> Callable[[str], int]:
    return lambda text: int(_number(text, low, high))


# parameter -> (field of Choices, text -> value, value -> text)
_PARAMETERS: dict[str, tuple[str, Callable[[str], Any], Callable[[Any], str]]] = {
    "ratio": ("key_ratio", lambda text: int(_number(text, 1, 100)) / 100, lambda value: f"{100 * value:.0f}"),
    "signal": ("signal", str, str),
    "method": ("method", _one_of(*METHODS), str),
    "alpha": ("vision_weight", lambda text: _number(text, 0), lambda value: f"{value:g}"),
    "bits": ("average_bits", lambda text: _number(text, 0, 16), lambda value: f"{value:g}"),
    "budget": ("budget_unit", _one_of(*BUDGET_UNITS), str),
    "mb": ("megabytes", lambda text: _number(text, 0), lambda value: f"{value:.6g}"),
    "scope": ("scope", _one_of(*SCOPES), str),
    "unit": ("unit", _one_of(*UNITS), str),
    "widths": ("widths", _widths, lambda value: ",".join(map(str, value))),
    "group": ("group_size", lambda text: int(_number(text, -1)), str),
    "pins": ("pins", _pins, lambda pins: "_".join(".".join(map(str, pin)) for pin in pins)),
    "quantizer": ("quantizer", _one_of(*QUANTIZERS), str),
    "attention": ("attention_bits", _whole(1, 16), str),
    "shared": ("shared_bits", _whole(1, 16), str),
    "gpu": ("gpu", _whole(1, 10_000), str),
    "context": ("context", _whole(0, 100_000_000), str),
    "symmetric": ("symmetric", lambda text: _one_of("yes", "no")(text) == "yes", lambda yes: "yes" if yes else "no"),
}


def to_address(chosen: Choices) -> dict[str, str]:
    """Parameters of everything that is not the default."""
    plain = Choices()
    return {
        name: show(getattr(chosen, field))
        for name, (field, _, show) in _PARAMETERS.items()
        if getattr(chosen, field) != getattr(plain, field)
    }


def from_address(parameters: Mapping[str, str]) -> tuple[Choices, list[str]]:
    """Choices from an address, and a sentence for each parameter that makes no sense and was left at its default."""
    changes, problems = {}, []
    for name, (field, read, _) in _PARAMETERS.items():
        if name in parameters:
            try:
                changes[field] = read(parameters[name])
            except ValueError:
                problems.append(f"The address says {name}={parameters[name]}, which is no value for it; left out.")
    return replace(Choices(), **changes), problems


def describe(settings: Mapping[str, Any]) -> str:
    """Settings kept with a result, in one line: 'mode, key ratio 20 %, 3 bits on average, widths 2 3 4'."""
    in_mb = settings.get("budget_unit") == "MB" and settings.get("megabytes")
    budget = f"{settings['megabytes']:.3g} MB" if in_mb else f"{settings.get('average_bits', 0):.4g} bits on average"
    parts = [str(settings.get("method", "?")), f"key ratio {100 * settings.get('key_ratio', 0):.0f} %", budget]
    parts.append("widths " + " ".join(str(width) for width in settings.get("widths", ())))
    return ", ".join(parts)
