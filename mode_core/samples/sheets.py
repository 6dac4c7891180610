"""CSV and TSV, row by row, with pictures as paths or as base64 (VLMEvalKit); long cells stay in the file until used."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Callable, Iterator
from typing import BinaryIO

from mode_core.samples.images import SampleError
from mode_core.samples.json_tables import WIDE, WIDE_WORDS, Rows
from mode_core.samples.values import Embedded, listed

LONG = 2048  # characters from which a picture's cell is fetched again instead of kept
SHORT_CELL = 64  # VLMEvalKit: so short a picture's cell is the index of the row that holds the picture
LISTS = ("images", "image", "videos", "video")  # several are separated by ';'
MAX_CELL = 128_000_000
DELIMITERS = ("\t", ",", ";")


def read_sheet(name: str, reopen: Callable[[], BinaryIO]) -> Rows:
    """The rows of a CSV or TSV as entries; what cannot be read comes as `SampleError`, and the next row goes on."""
    yield from _Sheet(name, reopen).rows()


class _Sheet:
    def __init__(self, name: str, reopen: Callable[[], BinaryIO]):
        csv.field_size_limit(MAX_CELL)
        self.name, self.reopen = name, reopen
        self.stream = reopen()
        head = self.stream.readline(MAX_CELL)
        self.wide = head.startswith(WIDE)
        first = head.removeprefix(codecs.BOM_UTF8).decode("utf-8", errors="replace")
        self.delimiter = max(DELIMITERS, key=first.count)
        self.columns, self.broken = [], ""
        try:
            self.columns = [_column(cell) for cell in next(csv.reader([first], delimiter=self.delimiter), [])]
        except csv.Error as broken:  # carriage returns alone, say
            self.broken = f"the header is not valid CSV ({broken}); save it anew, with line ends of Linux or Windows."
        self.places: dict[str, int] = {}  # index of a row -> where it begins

    def rows(self) -> Rows:
        if self.wide or self.broken:
            yield self.name, SampleError(WIDE_WORDS if self.wide else self.broken)
            return
        if twice := sorted({name for name in self.columns if name and self.columns.count(name) > 1}):
            yield self.name, SampleError(f"two columns are called {twice[0]!r}; rename one.")
            return
        line = 1
        while True:
            begins = self.stream.tell()
            reader = self._reader(self.stream)
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as broken:
                yield f"{self.name}, line {line + 1}", SampleError(f"not valid CSV ({broken}).")
                line += reader.line_num
                continue
            line += reader.line_num
            if cells:
                yield f"{self.name}, line {line}", self._entry(cells, begins)

    def _reader(self, stream: BinaryIO) -> Iterator[list[str]]:
        lines = (raw.decode("utf-8", errors="surrogateescape") for raw in iter(stream.readline, b""))
        return csv.reader(lines, delimiter=self.delimiter, strict=True)

    def _entry(self, cells: list[str], begins: int) -> object:
        if len(cells) > len(self.columns):
            return SampleError(
                f"{len(cells)} columns, but the header has {len(self.columns)}; put quotes round a cell that holds "
                f"{self.delimiter!r}."
            )
        entry: dict[str, object] = dict(zip(self.columns, cells, strict=False))
        if any("\udc80" <= character <= "\udcff" for cell in cells if len(cell) < LONG for character in cell):
            return SampleError("not readable as UTF-8 text; save it as UTF-8.")
        if "index" in entry:
            self.places[cells[self.columns.index("index")]] = begins
        for key in (*LISTS, "image_path", "answer", "answers"):
            if isinstance(cell := entry.get(key), str) and cell:
                entry[key] = self._cell(key, cell, begins)
        return entry

    def _cell(self, key: str, cell: str, begins: int) -> object:
        if cell.startswith("[") and cell.rstrip().endswith("]"):
            return listed(cell)
        if key in LISTS and len(cell) > LONG and not {".", ";"} & set(cell[:LONG].partition(",")[2] or cell[:LONG]):
            return Embedded(lambda: self._read(begins)[self.columns.index(key)])
        if key == "image" and "index" in self.columns and len(cell) <= SHORT_CELL and cell.isdecimal():
            return Embedded(lambda: self._of_row(cell))
        if key in LISTS and not cell.startswith("data:"):
            return [name.strip() for name in cell.split(";") if name.strip()]
        return cell

    def _read(self, begins: int) -> list[str]:
        """The cells of the row that begins there."""
        with self.reopen() as stream:
            stream.seek(begins)
            return next(self._reader(stream))

    def _of_row(self, index: str) -> str:
        """The picture's cell of another row."""
        if index not in self.places:
            for _ in _Sheet(self.name, self.reopen)._indexed(self.places):
                if index in self.places:
                    break
        if index not in self.places:
            raise SampleError(f"its picture is that of the row with index {index}, which {self.name} does not have.")
        cell = self._read(self.places[index])[self.columns.index("image")]
        if len(cell) <= SHORT_CELL:
            raise SampleError(f"its picture is that of the row with index {index}, which has none of its own.")
        return cell

    def _indexed(self, places: dict[str, int]) -> Rows:
        self.places = places
        return self.rows()


def _column(cell: str) -> str:
    """Names of columns in small letters; single ones (options A, B, …) as they are."""
    name = cell.strip()
    return name if len(name) == 1 else name.lower()
