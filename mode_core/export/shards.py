"""Safetensors shards with an index, written one tensor after another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from torch import Tensor

SHARD_BYTES = 1_000_000_000  # of one safetensors file
INDEX = "model.safetensors.index.json"
TYPES = {  # torch's names -> those of the format
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32",
    "int16": "I16", "int8": "I8", "uint8": "U8", "uint32": "U32", "bool": "BOOL",
}  # fmt: skip
ALIGNED = 8  # bytes to which the header is padded, so that data begins aligned
COPIED_AT_ONCE = 1 << 24


class ShardWriter:
    """Takes named tensors and writes shards of at most `limit` bytes. Memory: nothing beyond the tensor at hand.

    A tensor's bytes go to a file beside at once; a shard is put together from it when it is full, because
    the format wants its header first and wider types before narrower ones. Files are called as transformers expects
    them: `model.safetensors`, or `model-00001-of-0000N.safetensors` with an index.
    """

    def __init__(self, folder: Path, limit: int = SHARD_BYTES):
        self.folder, self.limit = folder, limit
        self._waiting: list[tuple[str, str, list[int], int, int]] = []  # name, type, shape, first byte, bytes
        self._bytes = self._total = 0
        self._data: BinaryIO | None = None
        self._shards: list[tuple[Path, list[str]]] = []

    def add(self, name: str, tensor: Tensor) -> None:
        """Take one tensor."""
        import torch

        if self._waiting and self._bytes + tensor.nbytes > self.limit:
            self._write()
        if self._data is None:
            self._data = (self.folder / "data.part").open("w+b")
        plain = tensor.detach().cpu().contiguous()
        self._data.write(plain.reshape(-1).view(torch.uint8).numpy().data)
        kind = str(plain.dtype).removeprefix("torch.")
        self._waiting.append((name, kind, list(plain.shape), self._bytes, plain.nbytes))
        self._bytes += plain.nbytes

    def close(self) -> None:
        """Write the last shard, give all shards their final names, and write the index where there are several."""
        self._write()
        self._data.close()
        (self.folder / "data.part").unlink()
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
        """Put a shard together: header, then every tensor's bytes, wider types first."""
        ordered = sorted(self._waiting, key=lambda held: (-_width(held[1]), held[0]))
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}
        place = 0
        for name, kind, shape, _, size in ordered:
            header[name] = {"dtype": TYPES[kind], "shape": shape, "data_offsets": [place, place + size]}
            place += size
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % ALIGNED)
        path = self.folder / f"shard-{len(self._shards)}.part"
        with path.open("wb") as out:
            out.write(len(text).to_bytes(8, "little") + text)
            for _, _, _, first, size in ordered:
                self._copy(out, first, size)
        self._shards.append((path, [held[0] for held in self._waiting]))
        self._total += self._bytes
        self._data.seek(0)
        self._data.truncate()
        self._waiting, self._bytes = [], 0

    def _copy(self, out: BinaryIO, first: int, size: int) -> None:
        self._data.seek(first)
        while size > 0:
            part = self._data.read(min(size, COPIED_AT_ONCE))
            out.write(part)
            size -= len(part)


def _width(kind: str) -> int:
    """Bytes of one number of a type."""
    import torch

    return getattr(torch, kind).itemsize
