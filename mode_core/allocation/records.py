"""The noun of allocation: the bits of every expert, and what was proven about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NotRequired

import numpy as np
from typing_extensions import TypedDict

from mode_core.errors import AllocationError
from mode_core.json_files import (
    CLOSED,
    OPEN,
    Amount,
    Count,
    Digits,
    Name,
    Width,
    check_format,
    checked,
    read_json,
    shortened,
    write_json,
)
from mode_core.quantization.widths import by_side

FORMAT = "mode-allocation/1"


class _Settings(TypedDict, total=False):
    """Those settings that are read again; others are kept as they are."""

    __pydantic_config__ = OPEN  # type: ignore[misc]

    key_ratio: float
    signal: str
    vision_weight: Amount
    audio_weight: Amount
    min_support: Count
    shrinkage: Amount
    seed: Count
    average_bits: Amount
    budget_bytes: Amount
    fixed_bytes: Count
    warning: str
    uniform: Width
    pinned: dict[Name, dict[Digits, Width]]
    request: dict[str, Any]
    quantizer: dict[str, Any]


class _Record(TypedDict):
    """An allocation as JSON holds it; `bits` are looked at one by one, with their expert."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]
    format: str
    bits: dict[Name, list[Any]]
    widths: list[Width]
    objective: float | None
    lower_bound: float | None
    proven_optimal: bool
    seconds: Amount
    average_bits: Amount
    scope: NotRequired[str]
    unit: NotRequired[str]
    method: NotRequired[str]
    bytes: NotRequired[Count | None]
    settings: NotRequired[_Settings]


@dataclass(frozen=True)
class Allocation:
    """Bits of every expert: bank name → int `[E]` (unit `projection`: int `[E, 2]`, gate+up and down).

    `objective` is the sum of the chosen costs, `lower_bound` what no allocation can go below, both in the
    unit of the costs. `proven_optimal` is true only where the two were shown to meet. `average_bits` is the
    mean over all experts' weights; `bytes` the packed size of all experts' codes, scales and zeros, where
    sizes were given.
    """

    bits: dict[str, np.ndarray]
    widths: tuple[int, ...]
    objective: float
    lower_bound: float
    proven_optimal: bool
    seconds: float
    average_bits: float
    scope: str = "bank"
    unit: str = "expert"
    method: str = ""
    bytes: int | None = None
    settings: Mapping[str, object] = field(default_factory=dict)

    def by_side(self) -> dict[str, np.ndarray]:
        """Bits of gate and up, and of down, whatever the unit: bank name → int `[E, 2]`."""
        return {bank: by_side(bits) for bank, bits in self.bits.items()}

    def __post_init__(self) -> None:
        if not self.bits:
            raise AllocationError("An allocation needs the bits of at least one bank; it has none.")
        for bank, bits in self.bits.items():
            shape, kind = np.shape(bits), np.asarray(bits).dtype.kind
            if kind not in "iu" or len(shape) not in (1, 2) or shape[1:] not in ((), (2,)) or not shape[0]:
                raise AllocationError(
                    f"Bank {bank}: bits must be whole numbers, one an expert or two (gate and up, down); got "
                    f"{np.asarray(bits).dtype} of shape {shape}."
                )

    def check_experts(self, experts: Mapping[str, int]) -> None:
        """Refuse an allocation whose banks do not have so many experts each; other banks are not looked at.

        Raises:
            AllocationError: names the bank, its experts, and how many have bits.
        """
        for bank, bits in self.bits.items():
            if bank in experts and len(bits) != experts[bank]:
                raise AllocationError(
                    f"The allocation has bits for {len(bits)} experts of bank {bank}, which has {experts[bank]}; it is "
                    "of another model, or damaged. Allocate again."
                )

    def save(self, path: str | Path) -> None:
        """Write as JSON, atomically."""
        bits = {bank: np.asarray(own).tolist() for bank, own in self.bits.items()}
        write_json(Path(path), asdict(self) | {"format": FORMAT, "bits": bits, "settings": dict(self.settings)})

    @classmethod
    def load(cls, path: str | Path) -> Allocation:
        """Read what `save` wrote.

        Raises:
            AllocationError: the file is missing, is no allocation or a newer one, or is damaged: the text names the
                field, of bits the bank and the expert.
        """
        path = Path(path)
        if not path.is_file():
            raise AllocationError(f"There is no file {path}; make one with 'python -m mode_core allocate'.")
        return cls.from_dict(read_json(path, AllocationError), path)

    @classmethod
    def from_dict(cls, record: object, where: object = "The allocation") -> Allocation:
        """An allocation from its JSON record, which lies at `where`; raises as `load`."""
        check_format(record, FORMAT, where, AllocationError, "allocation")
        found = checked(record, _Record, where, AllocationError)
        widths = tuple(found["widths"])
        bits = {bank: _bits(bank, own, widths, where) for bank, own in found["bits"].items()}
        numbers = {key: np.nan if found[key] is None else found[key] for key in ("objective", "lower_bound")}
        return cls(**{k: v for k, v in found.items() if k != "format"} | numbers | {"bits": bits, "widths": widths})


def _bits(bank: str, values: list[Any], widths: tuple[int, ...], where: object) -> np.ndarray:
    """The bits of one bank, int64 `[E]` or `[E, 2]`, each one of the widths."""
    pairs = bool(values) and isinstance(values[0], list)
    for expert, value in enumerate(values):
        own = value if pairs and isinstance(value, list) and len(value) == 2 else [value]
        if len(own) != 1 + pairs or not all(type(each) is int and each in widths for each in own):
            allowed = ", ".join(map(str, widths))
            raise AllocationError(
                f"{where} is damaged: bits of bank {shortened(bank)}, expert {expert}: expected "
                f"{'two of the widths' if pairs else 'one of the widths'} {allowed}; it holds {shortened(value)}."
            )
    if not values:
        raise AllocationError(f"{where} is damaged: bits of bank {shortened(bank)}: there are none.")
    return np.array(values, dtype=np.int64)
