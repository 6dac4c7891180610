"""What calibration leaves behind: per-expert sums by modality and redundancy bin, in folds of the samples.

Everything a person drags afterwards is arithmetic on these arrays; the model is not run again. Two
statistics of the same model and settings add up, so batches, processes and interrupted runs merge: counts
exactly, sums within float64 rounding.

The arrays and their axes are told in `bank_statistics`; `save` and `load` keep them in one safetensors file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from mode_core.files import atomic_write, read_tensors, tensor_bytes
from mode_core.statistics.bank_statistics import (
    EXTRAS,
    FOLDS,
    BankShape,
    BankStatistics,
    StatisticsError,
)


def fold_of(sample_id: str, folds: int = FOLDS) -> int:
    """Fold of a sample, 0..folds−1, from its id alone, so that every process and every rerun agrees."""
    return int.from_bytes(hashlib.sha256(sample_id.encode()).digest()[:8], "big") % folds


@dataclass(frozen=True)
class ExpertStatistics:
    """The statistics of a whole model: `banks` by full module name, in the order of the layers.

    `settings` names everything that must agree for two of them to be added (model, group size, quantizer of
    the sensitivity, bits, signals). `samples` lists the ids of the samples inside.
    """

    banks: dict[str, BankStatistics]
    bits: tuple[int, ...]
    signals: tuple[str, ...]
    settings: Mapping[str, object] = field(default_factory=dict)
    samples: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[BankStatistics]:
        return iter(self.banks.values())

    def __add__(self, other: ExpertStatistics) -> ExpertStatistics:
        """Statistics of both sets of samples together.

        Raises:
            StatisticsError: other model or settings, or a sample that is in both.
        """
        if dict(self.settings) != dict(other.settings) or list(self.banks) != list(other.banks):
            raise StatisticsError("Only statistics of the same model and the same settings can be added.")
        if twice := set(self.samples) & set(other.samples):
            raise StatisticsError(
                f"{len(twice)} samples are in both statistics ({', '.join(sorted(twice)[:3])} …); "
                "adding them would count these twice."
            )
        banks = {name: bank + other.banks[name] for name, bank in self.banks.items()}
        return replace(self, banks=banks, samples=self.samples + other.samples)

    @property
    def extras(self) -> tuple[str, ...]:
        """What was measured beyond the usual, names of `EXTRAS`: `gradients` and `hessian` where asked for."""
        return next(iter(self.banks.values())).extras

    @property
    def folds(self) -> int:
        """Number of folds held (8 after calibration, 7 with one left out)."""
        return next(iter(self.banks.values())).arrays["text_tokens"].shape[0]

    def without_fold(self, fold: int) -> ExpertStatistics:
        """Leave one fold of the samples out; see `fold_of`."""
        return replace(self, banks={name: bank.without_fold(fold) for name, bank in self.banks.items()})

    def digest(self) -> str:
        """Hash of all numbers: a cache key that does not sample."""
        seal = hashlib.sha256(json.dumps(self._header(), sort_keys=True).encode())
        for bank in self.banks.values():
            for key in sorted(bank.arrays):
                seal.update(key.encode())
                seal.update(np.ascontiguousarray(bank.arrays[key]).tobytes())
        return seal.hexdigest()[:16]

    def _header(self) -> dict:
        return {
            "format": 1,
            **({"extras": list(self.extras)} if self.extras else {}),
            "bits": list(self.bits),
            "signals": list(self.signals),
            "settings": dict(self.settings),
            "samples": list(self.samples),
            "banks": [{"name": bank.name, **vars(bank.shape)} for bank in self.banks.values()],
        }

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, atomically; arrays that are mostly zero are kept as index and value."""
        tensors: dict[str, np.ndarray] = {}
        for number, bank in enumerate(self.banks.values()):
            for key, value in bank.arrays.items():
                flat = value.ravel()
                filled = np.flatnonzero(flat)
                if filled.size * 12 < flat.size * 8:
                    tensors[f"{number}|{key}|index"] = filled.astype(np.int32)
                    tensors[f"{number}|{key}|value"] = flat[filled]
                else:
                    tensors[f"{number}|{key}"] = value
        atomic_write(Path(path), tensor_bytes(tensors, {"statistics": json.dumps(self._header())}))

    @classmethod
    def load(cls, path: str | Path) -> ExpertStatistics:
        """Read what `save` wrote.

        Raises:
            StatisticsError: no such file, or not a statistics file, with what was found instead.
        """
        tensors, metadata = read_tensors(Path(path), StatisticsError)
        if "statistics" not in metadata:
            raise StatisticsError(f"{path} is a safetensors file, but holds no expert statistics.")
        try:
            header = json.loads(metadata["statistics"])
            bits, signals = tuple(header["bits"]), tuple(header["signals"])
            extras = [extra for extra in header.get("extras", ()) if extra in EXTRAS]
            banks = {}
            for number, entry in enumerate(header["banks"]):
                name = entry.pop("name")
                empty = BankStatistics.empty(name, BankShape(**entry), bits, signals, extras=extras)
                banks[name] = replace(empty, arrays=_stored_arrays(empty.arrays, tensors, number))
            return cls(banks, bits, signals, header["settings"], tuple(header["samples"]))
        except (json.JSONDecodeError, KeyError, TypeError, IndexError, ValueError) as broken:
            raise StatisticsError(f"{path} holds damaged expert statistics ({broken}); calibrate again.") from None


def _stored_arrays(empty: dict[str, np.ndarray], tensors: dict[str, np.ndarray], number: int) -> dict[str, np.ndarray]:
    """The arrays of bank `number`, whole or as index and value; `empty` tells their names and shapes."""
    arrays = {}
    for key, zeros in empty.items():
        if f"{number}|{key}|index" in tensors:
            zeros.ravel()[tensors[f"{number}|{key}|index"]] = tensors[f"{number}|{key}|value"]
            arrays[key] = zeros
        else:
            arrays[key] = tensors[f"{number}|{key}"]
        if arrays[key].shape != zeros.shape:
            raise ValueError(f"{key} has shape {arrays[key].shape}; expected {zeros.shape}")
    return arrays
