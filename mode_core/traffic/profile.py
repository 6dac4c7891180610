"""The counts of a trace: how often text and vision tokens chose each expert while a model was served.

Kept as a file of a format of its own (`save`), which holds counts alone: no token, no text, no request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import TypedDict

from mode_core.errors import FileError
from mode_core.json_files import Amount, Count, Name, check_format, checked, read_json, write_json
from mode_core.modalities import TEXT_TOKENS, VISION_TOKENS
from mode_core.statistics import BankShape, ExpertStatistics

FORMAT = "mode-traffic/1"
NO_ONE = -1  # in place of an expert: a token whose routing the engine did not see (its prefix was cached)


class TrafficError(FileError):
    """A trace that cannot be read, or does not fit the run; the text names file, line and what to do."""


class OtherModelError(TrafficError):
    """A profile in order, of another model than the run's, or a run whose model no trace fits."""


class _Record(TypedDict):
    """What `save` writes: counts of each bank's experts, and what they were counted from."""

    format: str
    name: Name
    model: str
    layers: list[Count]
    told: bool
    requests: Count
    tokens: dict[str, Count]
    text: list[list[Amount]]
    vision: list[list[Amount]]


@dataclass
class TrafficProfile:
    """Selections by kind of token, `text` and `vision` float64 `[banks, E]`, added up by `add`.

    `told`: the ids said of every token which kind it is; otherwise all are in `text` and `vision` alike. Which vision
    tokens are redundant no trace tells. `name` is the trace's own, `model` what its run says that its model is.
    """

    shapes: Sequence[BankShape]
    name: str = "trace"
    model: str = ""
    told: bool = True
    requests: int = 0
    tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys((TEXT_TOKENS, VISION_TOKENS), 0))

    def __post_init__(self) -> None:
        if len({shape.layer for shape in self.shapes}) < len(self.shapes) or len({s.experts for s in self.shapes}) > 1:
            raise OtherModelError(
                "A trace has one row of experts a layer, and this model has several banks in a layer, or banks of "
                "different sizes; calibrate it instead."
            )
        self.text = np.zeros((len(self.shapes), self.shapes[0].experts))
        self.vision = np.zeros_like(self.text)

    @classmethod
    def empty(cls, statistics: ExpertStatistics, name: str) -> TrafficProfile:
        """Nothing counted yet, of the model that `statistics` are of."""
        return cls([bank.shape for bank in statistics], name, str(statistics.settings.get("model", "")))

    @cached_property
    def digest(self) -> str:
        """Name of what was counted, of 12 letters and digits; for a profile that is complete."""
        seal = hashlib.sha256(f"{self.model}\0{self._layers}\0{self.told}".encode())
        for counts in (self.text, self.vision):
            seal.update(counts.tobytes())
        return seal.hexdigest()[:12]

    @property
    def _layers(self) -> list[int]:
        return [shape.layer for shape in self.shapes]

    def save(self, path: Path) -> None:
        """Write the counts as JSON, atomically."""
        told: dict[str, Any] = {"told": self.told, "requests": self.requests, "tokens": self.tokens}
        head = {"format": FORMAT, "name": self.name, "model": self.model, "layers": self._layers}
        counts = {TEXT_TOKENS: self.text.tolist(), VISION_TOKENS: self.vision.tolist()}
        write_json(path, head | told | counts)

    @classmethod
    def load(cls, path: Path, statistics: ExpertStatistics) -> TrafficProfile:
        """Read what `save` wrote, for the run that `statistics` are of.

        Raises:
            OtherModelError: it is of another model.
            TrafficError: the file is missing, damaged or something else; it is named.
        """
        record = read_json(path, TrafficError)
        check_format(record, FORMAT, path, TrafficError, "traffic profile")
        record = checked(record, _Record, path, TrafficError)
        found = cls.empty(statistics, record["name"])
        size = found.text.shape[1]
        if record["model"] != found.model or record["layers"] != found._layers:
            raise OtherModelError(
                f"{path} was counted on {record['model'] or 'an unnamed model'}, and this run is of "
                f"{found.model or 'an unnamed model'}, or of other layers of it; take a profile of the same model."
            )
        for kind in (TEXT_TOKENS, VISION_TOKENS):
            if [len(row) for row in record[kind]] != [size] * len(found.shapes):
                raise TrafficError(f"{path} is damaged: {kind}: it needs {size} counts for each of its layers.")
            setattr(found, kind, np.array(record[kind]))
        found.told, found.requests, found.tokens = record["told"], record["requests"], record["tokens"]
        return found

    def add(self, chosen: np.ndarray, seeing: np.ndarray | None, where: str) -> None:
        """Count one request: expert ids `[tokens, layers, k]`, and which tokens are vision (None: nothing tells).

        Raises:
            TrafficError: layers or experts that the run's model does not have.
        """
        chosen = self._of_banks(chosen, where)
        told = seeing is not None
        if self.requests and told != self.told:
            raise TrafficError(
                f"{where}: its token ids tell the kinds of token, those before did not (or the reverse)."
            )
        self.told, self.requests = told, self.requests + 1
        seen = (chosen != NO_ONE).any(axis=(1, 2))
        for kind, counts, rows in (
            (TEXT_TOKENS, self.text, seen & ~seeing if told else seen),
            (VISION_TOKENS, self.vision, seen & seeing if told else seen),
        ):
            self.tokens[kind] += int(rows.sum())
            for bank in range(len(self.shapes)):
                ids = chosen[rows, bank].ravel()
                counts[bank] += np.bincount(ids[ids != NO_ONE], minlength=counts.shape[1])

    def add_counts(self, counts: np.ndarray, where: str) -> None:
        """Add whole counts `[layers, E]`, which tell no kind of token."""
        counts = self._of_banks(np.asarray(counts, dtype=float)[None, :, :], where)[0]
        if counts.shape[1] != self.text.shape[1] or not np.isfinite(counts).all() or (counts < 0).any():
            raise TrafficError(f"{where}: counts of {counts.shape[1]} experts; the run has {self.text.shape[1]}.")
        self.told, self.requests = False, self.requests + 1
        self.text += counts
        self.vision += counts
        for kind in self.tokens:
            self.tokens[kind] += round(counts[0].sum() / self.shapes[0].top_k)

    def _of_banks(self, given: np.ndarray, where: str) -> np.ndarray:
        """Of all layers or of those with experts alone: `[n, layers, …]` → `[n, banks, …]`."""
        places, layers = [shape.layer for shape in self.shapes], given.shape[1]
        if layers != len(places) and layers <= max(places):
            raise TrafficError(
                f"{where}: {layers} layers; the run has {len(places)} banks, in layers up to {max(places)}. Is it a "
                "trace of the same model?"
            )
        held = given if layers == len(places) else given[:, places]
        experts = self.shapes[0].experts
        if given.dtype.kind in "iu" and held.size and not (held.min() >= NO_ONE and held.max() < experts):
            raise TrafficError(
                f"{where}: expert {int(held.max())}; the run's banks have {experts}, counted from 0. Is "
                "it a trace of the same model?"
            )
        return held
