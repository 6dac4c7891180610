"""Safetensors shards with an index, written one tensor after another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SHARD_BYTES = 1_000_000_000  # of one safetensors file; also what a writer holds in memory
INDEX = "model.safetensors.index.json"


class ShardWriter:
    """Collects named tensors and writes a shard whenever `limit` bytes are full. Memory: one shard.

    Files are called as transformers expects them: `model.safetensors`, or `model-00001-of-0000N.safetensors`
    with an index.
    """

    def __init__(self, folder: Path, limit: int = SHARD_BYTES):
        self.folder, self.limit = folder, limit
        self._waiting: dict[str, Tensor] = {}
        self._bytes = self._total = 0
        self._shards: list[tuple[Path, list[str]]] = []

    def add(self, name: str, tensor: Tensor) -> None:
        """Take one tensor; it is written with its shard."""
        if self._waiting and self._bytes + tensor.nbytes > self.limit:
            self._write()
        self._waiting[name] = tensor.detach().cpu().contiguous()
        self._bytes += tensor.nbytes

    def close(self) -> None:
        """Write the last shard, give all shards their final names, and write the index where there are several."""
        self._write()
        count = len(self._shards)
        if count == 1:
            self._shards[0][0].replace(self.folder / "model.safetensors")
            return
        places: dict[str, str] = {}
        for number, (path, names) in enumerate(self._shards, start=1):
            final = f"model-{number:05d}-of-{count:05d}.safetensors"
            path.replace(self.folder / final)
            places |= dict.fromkeys(names, final)
        index = {"metadata": {"total_size": self._total}, "weight_map": places}
        (self.folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")

    def _write(self) -> None:
        from safetensors.torch import save_file

        path = self.folder / f"shard-{len(self._shards)}.part"
        save_file(self._waiting, str(path), metadata={"format": "pt"})
        self._shards.append((path, list(self._waiting)))
        self._total += self._bytes
        self._waiting, self._bytes = {}, 0
