"""The noun of allocation: the bits of every expert, and what was proven about them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from mode_core.files import atomic_write


class AllocationError(ValueError):
    """A request that no allocation can meet, with the constraint and the feasible range; or an unreadable file."""


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
        return {bank: np.stack([bits, bits], axis=1) if np.ndim(bits) == 1 else np.asarray(bits)
                for bank, bits in self.bits.items()}  # fmt: skip

    def save(self, path: str | Path) -> None:
        """Write as JSON, atomically."""
        record = asdict(self) | {
            "format": "mode-allocation/1",
            "bits": {bank: np.asarray(bits).tolist() for bank, bits in self.bits.items()},
            "settings": dict(self.settings),
        }
        atomic_write(Path(path), json.dumps(record, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Allocation:
        """Read what `save` wrote.

        Raises:
            AllocationError: the file is missing, is not JSON, or is no allocation; the text names which.
        """
        try:
            record = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise AllocationError(f"There is no file {path}; make one with 'python -m mode_core allocate'.") from None
        except (UnicodeDecodeError, json.JSONDecodeError) as broken:
            raise AllocationError(f"{path} is not readable as JSON ({broken}).") from None
        if not isinstance(record, dict) or record.pop("format", None) != "mode-allocation/1":
            raise AllocationError(f"{path} is JSON, but no allocation (no 'format': 'mode-allocation/1').")
        record["bits"] = {bank: np.asarray(bits, dtype=np.int64) for bank, bits in record["bits"].items()}
        record["widths"] = tuple(record["widths"])
        return cls(**record)
