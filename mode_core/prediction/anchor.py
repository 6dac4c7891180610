"""The noun of anchoring: what rounding every expert alike does to a few samples, measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, NotRequired

import numpy as np
from annotated_types import Interval, Len
from typing_extensions import TypedDict

from mode_core.errors import PredictionError
from mode_core.json_files import CLOSED, Amount, Count, Width, check_format, checked, read_json, write_json
from mode_core.modalities import ALL, MODALITIES

FORMAT = "mode-anchor/1"


class _Record(TypedDict):
    """anchor.json; an error of null is one that a single sample cannot tell."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]
    format: str
    widths: Annotated[list[Width], Len(1)]
    kl: dict[str, list[Amount]]
    error: dict[str, list[Amount | None]]
    samples: dict[str, Count]
    info: dict[str, Any]
    drawn: NotRequired[Annotated[float, Interval(ge=0, le=1)]]
    spread: NotRequired[Amount]


@dataclass(frozen=True)
class Anchor:
    """KL to the original with every expert at one width, by kind of sample: "text" (no picture), "vision", "all".

    `widths` rise; `kl[kind]` and `error[kind]` are, width by width, the mean over `samples[kind]` samples of the mean
    KL over their answer positions, in nats, and its standard error. `info` says how it was measured. Where allocations
    were measured too (`yardstick.fitted`): `drawn`, the shrinkage of costs that tells their damage best, and `spread`,
    how far off it is then, as standard error of the logarithm.
    """

    widths: tuple[int, ...]
    kl: Mapping[str, tuple[float, ...]]
    error: Mapping[str, tuple[float, ...]]
    samples: Mapping[str, int]
    info: Mapping[str, Any] = field(default_factory=dict)
    drawn: float | None = None
    spread: float = 0.0

    @classmethod
    def of(cls, kl: Mapping[int, np.ndarray], modalities: np.ndarray, info: Mapping[str, Any] | None = None) -> Anchor:
        """From the KL of every sample at each width, `[n]`, and the samples' modalities `[n]`."""
        widths = tuple(sorted(kl))
        masks = {kind: modalities == kind for kind in MODALITIES} | {ALL: np.ones(len(modalities), dtype=bool)}
        masks = {kind: mask for kind, mask in masks.items() if mask.any()}
        each = {kind: [np.asarray(kl[width], dtype=float)[mask] for width in widths] for kind, mask in masks.items()}
        mean = {kind: tuple(float(own.mean()) for own in rows) for kind, rows in each.items()}
        error = {
            kind: tuple(float(own.std(ddof=1) / np.sqrt(len(own))) if len(own) > 1 else np.inf for own in rows)
            for kind, rows in each.items()
        }
        return cls(widths, mean, error, {kind: int(mask.sum()) for kind, mask in masks.items()}, dict(info or {}))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; what no allocations were measured for is left out."""
        record = {"format": FORMAT} | asdict(self)
        return {key: value for key, value in record.items() if self.drawn is not None or key not in ("drawn", "spread")}

    @classmethod
    def from_dict(cls, record: object, where: object = "the anchor") -> Anchor:
        """Back from `to_dict`, or from what `save` wrote.

        Raises:
            PredictionError: it is no anchor; with `where` and the field.
        """
        check_format(record, FORMAT, where, PredictionError, "anchor")
        found = checked(record, _Record, where, PredictionError)
        widths = tuple(found["widths"])
        kl = {kind: tuple(own) for kind, own in found["kl"].items()}
        error = {kind: tuple(np.inf if one is None else one for one in own) for kind, own in found["error"].items()}
        if set(kl) != set(error) or any(len(own) != len(widths) for own in (*kl.values(), *error.values())):
            raise PredictionError(f"{where} is damaged: not every kind has a number for each of {len(widths)} widths.")
        fitted = (found.get("drawn"), found.get("spread", 0.0))
        return cls(widths, kl, error, dict(found["samples"]), dict(found["info"]), *fitted)

    def save(self, path: str | Path) -> None:
        """Write as JSON, atomically."""
        write_json(Path(path), self.to_dict())

    @classmethod
    def load(cls, path: str | Path) -> Anchor:
        """Read what `save` wrote.

        Raises:
            PredictionError: the file is missing, damaged, or something else; the text names the field.
        """
        return cls.from_dict(read_json(Path(path), PredictionError), path)
