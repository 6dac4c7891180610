"""The noun of anchoring: what rounding every expert alike does to a few samples, measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mode_core.files import atomic_write
from mode_core.modalities import ALL, MODALITIES

FORMAT = "mode-anchor/1"


class PredictionError(ValueError):
    """An anchor that cannot be read, or does not fit the run; the text says what to do."""


@dataclass(frozen=True)
class Anchor:
    """KL to the original with every expert at one width, by kind of sample: "text" (no picture), "vision", "all".

    `widths` rise; `kl[kind]` and `error[kind]` are, width by width, the mean over `samples[kind]` samples of the mean
    KL over their answer positions, in nats, and its standard error. `info` says how it was measured.
    """

    widths: tuple[int, ...]
    kl: Mapping[str, tuple[float, ...]]
    error: Mapping[str, tuple[float, ...]]
    samples: Mapping[str, int]
    info: Mapping[str, Any] = field(default_factory=dict)

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
        """Plain values, for JSON."""
        return json.loads(json.dumps(asdict(self))) | {"format": FORMAT}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Anchor:
        """Back from `to_dict`.

        Raises:
            PredictionError: it is no anchor.
        """
        try:
            if record["format"] != FORMAT:
                raise KeyError("format")
            kl, error = ({kind: tuple(own) for kind, own in record[name].items()} for name in ("kl", "error"))
            return cls(tuple(record["widths"]), kl, error, dict(record["samples"]), dict(record["info"]))
        except (KeyError, TypeError, AttributeError) as missing:
            raise PredictionError(f"This is no anchor ({missing}); measure it again.") from None

    def save(self, path: str | Path) -> None:
        """Write as JSON, atomically."""
        atomic_write(Path(path), json.dumps(self.to_dict(), indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Anchor:
        """Read what `save` wrote.

        Raises:
            PredictionError: the file is damaged, or something else.
        """
        try:
            record = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as broken:
            raise PredictionError(f"{path} cannot be read ({broken}); measure the anchor again.") from None
        return cls.from_dict(record)
