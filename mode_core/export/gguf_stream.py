"""A GGUF file written piece by piece: every tensor has its place from the start, and parts arrive in any order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mode_core.export.folder import ExportError
from mode_core.export.ggml_types import GgmlType

if TYPE_CHECKING:
    from gguf import GGUFWriter


class GgufStream:
    """Plan all tensors, `begin`, `put` their bytes, `close`. gguf-py writes header, settings and the tensors' table.

    Memory: one part.

    Raises:
        ExportError: on `close`, a tensor whose bytes have not all arrived.
    """

    def __init__(self, path: Path, writer: GGUFWriter):
        self.path, self.writer = path, writer
        self._left: dict[str, int] = {}
        self._places: dict[str, int] = {}

    def plan(self, name: str, shape: Sequence[int], kind: GgmlType) -> None:
        """A tensor, outer axes first; gguf-py has no name for some types, so its number is written."""
        from gguf.gguf_writer import TensorInfo

        size = int(np.prod(shape[:-1])) * kind.row_bytes(shape[-1])
        self.writer.tensors[-1][name] = TensorInfo(shape=list(shape), dtype=kind.id, nbytes=size)
        self._left[name] = size

    def begin(self) -> None:
        """Write everything but the data, and make the file as long as it will be."""
        self.writer.write_header_to_file(self.path)
        self.writer.write_kv_data_to_file()
        self.writer.write_ti_data_to_file()
        (self._file,) = self.writer.fout
        step = self.writer.data_alignment
        place = self.writer.ggml_pad(self._file.tell(), step)
        for name, size in self._left.items():
            self._places[name] = place
            place = self.writer.ggml_pad(place + size, step)
        self._file.truncate(place)

    def put(self, name: str, content: np.ndarray, at: int = 0) -> None:
        """Bytes of a tensor from byte `at` on."""
        self._file.seek(self._places[name] + at)
        self._file.write(np.ascontiguousarray(content).data)
        self._left[name] -= content.nbytes

    def close(self) -> None:
        """Finish the file."""
        self.writer.close()
        if short := [name for name, left in self._left.items() if left]:
            raise ExportError(f"{short[0]} is not whole in {self.path.name}: {self._left[short[0]]} bytes are missing.")
