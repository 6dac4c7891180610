"""The safetensors files of a checkpoint's folder, read tensor by tensor, or a part of one at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from mode_core.export.folder import ExportError
from mode_core.export.shards import INDEX

if TYPE_CHECKING:
    from torch import Tensor


class TensorFiles:
    """The tensors of a folder's safetensors files by name. Memory: what is asked for; files are mapped, not read."""

    def __init__(self, folder: Path):
        self.folder, self._opened = folder, (None, None)
        self.places = self._index()

    def shape(self, name: str) -> tuple[int, ...]:
        """Sizes of a tensor, without reading it."""
        return tuple(self._file(name).get_slice(name).get_shape())

    def read(self, name: str, first: int | None = None, last: int | None = None) -> Tensor:
        """A tensor, or `[first:last]` of it along its leading axis."""
        return self._file(name).get_tensor(name) if first is None else self._file(name).get_slice(name)[first:last]

    def close(self) -> None:
        """Let go of the file that is open."""
        self._opened = (None, None)

    def _index(self) -> dict[str, Path]:
        from safetensors import SafetensorError, safe_open

        index = self.folder / INDEX
        if index.is_file():
            places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            files = {name: self.folder / file for name, file in places.items()}
            if lost := sorted({path.name for path in files.values() if not path.is_file()}):
                raise ExportError(f"{self.folder} lacks the shard {lost[0]} that its index names; copy it whole.")
            return files
        files = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                with safe_open(str(path), framework="pt") as opened:
                    files |= dict.fromkeys(opened.keys(), path)
            except SafetensorError as broken:
                raise ExportError(f"{path} is not a readable safetensors file ({broken}).") from None
        if not files:
            raise ExportError(f"{self.folder} holds no safetensors weights; choose a checkpoint's folder.")
        return files

    def _file(self, name: str):
        from safetensors import safe_open

        path = self.places[name]
        if self._opened[0] != path:
            self._opened = path, safe_open(str(path), framework="pt")
        return self._opened[1]
