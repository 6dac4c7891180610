"""What calibration leaves behind: per-expert sums by modality and redundancy bin, in folds of the samples.

Everything a person drags afterwards is arithmetic on these arrays; the model is not run again. Two
statistics of the same model and settings add up, so batches, processes and interrupted runs merge: counts
exactly, sums within float64 rounding.

The arrays and their axes are told in `bank_statistics`; `save` and `load` keep them in one safetensors file.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

import numpy as np
from annotated_types import Interval, Len
from typing_extensions import TypedDict

from mode_core.errors import StatisticsError
from mode_core.files import atomic_write, read_tensors, tensor_bytes
from mode_core.json_files import CLOSED, OPEN, Amount, Count, Name, Width, checked, newer, parse_json
from mode_core.modalities import MODALITIES, USUAL
from mode_core.statistics.bank_statistics import EXTRAS, FOLDS, BankShape, BankStatistics

FORMAT = 2  # 1 where there are no more modalities than text and vision, as it always was
MOST_ZEROS, MOST_ZEROS_A_BYTE = 1 << 28, 1 << 12  # bytes of memory that a file's zeros, which it leaves out, may take
Size = Annotated[int, Interval(ge=1, le=1 << 24)]
ByTask = Mapping[str, np.ndarray]


class _Bank(TypedDict):
    """A bank's name and `BankShape`."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]
    name: Name
    layer: Count
    experts: Size
    hidden: Size
    intermediate: Size
    top_k: Size
    has_gate: NotRequired[bool]


class _Settings(TypedDict, total=False):
    """Those settings that are read again; others are kept as they are."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    model: str
    revision: str | None
    group_size: Annotated[int, Interval(ge=-1, le=1 << 24)]
    symmetric: bool
    sensitivity: bool
    origin: str
    key_ratios: list[Amount]


class _Header(TypedDict):
    """What the file says beside its arrays."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    format: Literal[1, 2]
    modalities: NotRequired[list[Literal[tuple(MODALITIES)]]]  # type: ignore[valid-type]
    extras: NotRequired[list[Literal[EXTRAS]]]  # type: ignore[valid-type]
    tasks: NotRequired[list[str]]
    bits: Annotated[list[Width], Len(1)]
    signals: Annotated[list[Name], Len(1)]
    settings: _Settings
    samples: list[Name]
    banks: Annotated[list[_Bank], Len(1)]


def fold_of(sample_id: str, folds: int = FOLDS) -> int:
    """Fold of a sample, 0..folds−1, from its id alone, so that every process and every rerun agrees."""
    return int.from_bytes(hashlib.sha256(sample_id.encode()).digest()[:8], "big") % folds


@dataclass(frozen=True)
class ExpertStatistics:
    """The statistics of a whole model: `banks` by full module name, in the order of the layers.

    `settings` names everything that must agree for two of them to be added (model, group size, quantizer of
    the sensitivity, bits, signals). `samples` lists the ids of the samples inside. `by_task`: task of the samples (""
    of those that name none) → top-k selections `[banks, MODALITIES, E]`, E of the largest bank, not in folds; empty
    where they were not counted, as in runs of earlier versions.
    """

    banks: dict[str, BankStatistics]
    bits: tuple[int, ...]
    signals: tuple[str, ...]
    settings: Mapping[str, object] = field(default_factory=dict)
    samples: tuple[str, ...] = ()
    by_task: ByTask = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len({bank.modalities for bank in self.banks.values()}) > 1:  # a bank that no such token came to has none
            held = {name for bank in self.banks.values() for name in bank.modalities}
            object.__setattr__(self, "banks", {name: bank.having(held) for name, bank in self.banks.items()})

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
        return replace(self, banks=banks, samples=self.samples + other.samples, by_task=_together(self, other))

    @property
    def extras(self) -> tuple[str, ...]:
        """What was measured beyond the usual, names of `EXTRAS`: `gradients` and `hessian` where asked for."""
        return next(iter(self.banks.values())).extras

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of `MODALITIES` that these statistics tell apart: the usual two, and others where there were tokens."""
        return next(iter(self.banks.values())).modalities if self.banks else USUAL

    @property
    def folds(self) -> int:
        """Number of folds held (8 after calibration, 7 with one left out)."""
        return next(iter(self.banks.values())).arrays["text_tokens"].shape[0]

    def without_fold(self, fold: int) -> ExpertStatistics:
        """Leave one fold of the samples out; see `fold_of`. What its tasks used is not known then."""
        return replace(self, banks={name: bank.without_fold(fold) for name, bank in self.banks.items()}, by_task={})

    def digest(self) -> str:
        """Hash of all numbers that costs are made of (`by_task` is not): a cache key that does not sample."""
        header = {key: value for key, value in self._header().items() if key != "tasks"}
        seal = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
        for bank in self.banks.values():
            for key in sorted(bank.arrays):
                seal.update(key.encode())
                seal.update(np.ascontiguousarray(bank.arrays[key]).tobytes())
        return seal.hexdigest()[:16]

    def _header(self) -> dict:
        more = self.modalities != USUAL
        return {
            "format": FORMAT if more else 1,
            **({"modalities": list(self.modalities)} if more else {}),
            **({"extras": list(self.extras)} if self.extras else {}),
            **({"tasks": list(self.by_task)} if self.by_task else {}),
            "bits": list(self.bits),
            "signals": list(self.signals),
            "settings": dict(self.settings),
            "samples": list(self.samples),
            "banks": [{"name": bank.name, **vars(bank.shape)} for bank in self.banks.values()],
        }

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, atomically; arrays that are mostly zero are kept as index and value."""
        tensors: dict[str, np.ndarray] = {}
        arrays = [
            (f"{number}|{key}", value) for number, bank in enumerate(self) for key, value in bank.arrays.items()
        ] + [(f"task|{number}", counts) for number, counts in enumerate(self.by_task.values())]
        for key, value in arrays:
            flat = value.ravel()
            filled = np.flatnonzero(flat)
            if filled.size * 12 < flat.size * 8:
                tensors[f"{key}|index"] = filled.astype(np.int32)
                tensors[f"{key}|value"] = flat[filled]
            else:
                tensors[key] = value
        atomic_write(Path(path), tensor_bytes(tensors, {"statistics": json.dumps(self._header())}))

    @classmethod
    def load(cls, path: str | Path) -> ExpertStatistics:
        """Read what `save` wrote.

        Raises:
            StatisticsError: no such file, or not a statistics file, with what was found instead.
        """
        path = Path(path)
        tensors, metadata = read_tensors(path, StatisticsError)
        if "statistics" not in metadata:
            raise StatisticsError(f"{path} is a safetensors file, but holds no expert statistics.")
        header = _checked_header(parse_json(metadata["statistics"], path, StatisticsError), path)
        bits, signals = tuple(header["bits"]), tuple(header["signals"])
        most, banks, tasks = MOST_ZEROS + MOST_ZEROS_A_BYTE * path.stat().st_size, {}, header.get("tasks", ())
        axes = len(header["banks"]), len(MODALITIES), max(entry["experts"] for entry in header["banks"])
        most -= 8 * len(tasks) * math.prod(axes)
        for number, entry in enumerate(header["banks"]):
            name, shape = entry["name"], BankShape(**{key: value for key, value in entry.items() if key != "name"})
            extras, modalities = header.get("extras", ()), header.get("modalities", USUAL)
            shapes = BankStatistics.array_shapes(shape, len(bits), signals, FOLDS, extras, modalities)
            most -= 8 * sum(math.prod(axes) for axes in shapes.values())
            if most < 0:
                raise StatisticsError(f"{path} is damaged: its header claims more experts than the file has room for.")
            arrays = {key: _array(tensors, f"{number}|{key}", size, path) for key, size in shapes.items()}
            banks[name] = BankStatistics(name, shape, bits, signals, arrays)
        by_task = {task: _array(tensors, f"task|{number}", axes, path) for number, task in enumerate(tasks)}
        return cls(banks, bits, signals, header["settings"], tuple(header["samples"]), by_task)


def _together(one: ExpertStatistics, other: ExpertStatistics) -> ByTask:
    """Selections by task of both; none where those of one are not known."""
    for mine, theirs in ((one, other), (other, one)):
        if not mine.samples:
            return theirs.by_task
    if not (one.by_task and other.by_task):
        return {}
    names = dict.fromkeys((*one.by_task, *other.by_task))
    return {
        name: np.sum([held.by_task[name] for held in (one, other) if name in held.by_task], axis=0) for name in names
    }


def _checked_header(record: object, path: Path) -> dict[str, Any]:
    version = record.get("format") if isinstance(record, dict) else None
    if type(version) is int and version > FORMAT:
        raise StatisticsError(newer(path, version, FORMAT))
    header = checked(record, _Header, path, StatisticsError)
    for what in ("bits", "signals", "samples", "modalities", "tasks"):
        if len(set(names := header.get(what, ()))) != len(names):
            raise StatisticsError(f"{path} is damaged: {what}: one is named twice.")
    if not {*USUAL} <= {*header.get("modalities", USUAL)}:
        raise StatisticsError(f"{path} is damaged: modalities: {' and '.join(USUAL)} are always there.")
    if len({bank["name"] for bank in header["banks"]}) != len(header["banks"]):
        raise StatisticsError(f"{path} is damaged: banks: one is named twice.")
    return header


def _array(tensors: dict[str, np.ndarray], key: str, axes: tuple[int, ...], path: Path) -> np.ndarray:
    """One array float64 of this shape, stored whole, or as index and value where it is mostly zero."""
    if f"{key}|index" in tensors:
        index, values = tensors[f"{key}|index"], tensors.get(f"{key}|value")
        size = math.prod(axes)
        if (
            index.ndim != 1 or index.dtype != np.int32 or values is None or values.shape != index.shape
            or (index.size and not 0 <= index.min() <= index.max() < size) or values.dtype != np.float64
        ):  # fmt: skip
            raise StatisticsError(f"{path} is damaged: {key} does not fit into {axes} numbers.")
        whole = np.zeros(size)
        whole[index] = values
        return whole.reshape(axes)
    array = tensors.get(key)
    if array is None or array.shape != axes or array.dtype != np.float64:
        held = "is missing" if array is None else f"is {array.dtype} of shape {array.shape}"
        raise StatisticsError(f"{path} is damaged: {key} {held}; expected float64 of shape {axes}.")
    return array
