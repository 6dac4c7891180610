"""Item scores of every allocation that was measured, one small file each: an interrupted comparison goes on there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

from mode_core.comparison.items import ItemScores
from mode_core.files import atomic_write, read_tensors, tensor_bytes
from mode_core.runs.evidence import EvidenceError


class Store:
    """A folder of measurements, or what is in memory only (`folder` None). `ground` is everything beside the bits that
    a measurement depends on (model, items, quantizer, …); results on other ground are not found, so they never mix."""

    def __init__(self, folder: Path | None, ground: Mapping[str, object]) -> None:
        self.folder = folder
        self._ground = json.dumps(dict(ground), sort_keys=True).encode()
        self._held: dict[str, ItemScores] = {}

    def key(self, bits: Mapping[str, np.ndarray]) -> str:
        """Name of a measurement: a hash of the ground and of every expert's bits."""
        seal = hashlib.sha256(self._ground)
        for name, own in bits.items():
            seal.update(name.encode())
            seal.update(np.ascontiguousarray(own, dtype=np.int64).tobytes())
        return seal.hexdigest()[:24]

    def __contains__(self, key: str) -> bool:
        return key in self._held or (self.folder is not None and self._path(key).is_file())

    def __getitem__(self, key: str) -> ItemScores:
        if key not in self._held:
            path = self._path(key)
            found = read_tensors(path, EvidenceError)[0]
            shapes = {(array.dtype.kind, array.shape) for array in found.values()}
            if set(found) != {part.name for part in fields(ItemScores)} or len(shapes) != 1 or shapes.pop()[0] != "f":
                raise EvidenceError(f"{path} is damaged: it holds {', '.join(found)}. Delete it, and compare again.")
            self._held[key] = ItemScores(**found)
        return self._held[key]

    def put(self, key: str, scores: ItemScores) -> None:
        """Keep one measurement, whole or not at all."""
        if self.folder is not None:
            atomic_write(self._path(key), tensor_bytes(asdict(scores)))
        self._held[key] = scores

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"
