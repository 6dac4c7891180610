"""Parquet of Hugging Face data sets, row group by row group; pictures' bytes stay in the file until they are used."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, BinaryIO

from mode_core.samples.images import SampleError
from mode_core.samples.json_tables import Rows
from mode_core.samples.values import Embedded

if TYPE_CHECKING:
    import pyarrow as pa


def read_parquet(name: str, reopen: Callable[[], BinaryIO]) -> Rows:
    """The rows of a Parquet file as entries.

    Memory: the texts of one row group, and the pictures of the row group that was looked at last.
    """
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(reopen())
    except _damage() as broken:
        yield name, SampleError(f"not readable as Parquet ({_first_line(broken)}); export it again.")
        return
    pictures = {field.name for field in file.schema_arrow if _holds_bytes(field.type)}
    texts = [column for column in file.schema_arrow.names if column not in pictures]
    column = lru_cache(maxsize=1)(lambda group, key: file.read_row_group(group, columns=[key]).column(0))
    number = 0
    for group in range(file.num_row_groups):
        try:
            rows = file.read_row_group(group, columns=texts).to_pylist() if texts else []
            named = {key: _names(file, group, key) for key in pictures}
            count = file.metadata.row_group(group).num_rows
            if {len(held) for held in (*named.values(), *([rows] if texts else []))} != {count}:
                raise ValueError(f"its columns do not have {count} rows each")
        except _damage() as broken:
            yield f"{name}, row group {group + 1}", SampleError(f"damaged ({_first_line(broken)}); export it again.")
            continue
        for place in range(count):
            number += 1
            entry = dict(rows[place]) if texts else {}
            for key, all_names in named.items():
                entry[key] = _embedded(column, group, key, place, all_names[place])
            yield f"{name}, row {number}", entry


def _holds_bytes(kind: pa.DataType) -> bool:
    """Is it a column of pictures: bytes, {bytes, path}, or lists of these?"""
    import pyarrow.types as types

    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _holds_bytes(kind.value_type)
    if types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _holds_bytes(kind.field("bytes").type)
    return types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)


def _names(file: object, group: int, key: str) -> list[object]:
    """Of every row what its pictures are called: a path, True for one without, a list of these, or None for none.

    Only the paths are read where there are any; else the bytes, which are let go of again.
    """
    leaves = [file.schema.column(number).path for number in range(len(file.schema))]
    paths = [leaf for leaf in leaves if leaf.split(".")[0] == key and leaf.split(".")[-1] == "path"]
    found: pa.ChunkedArray = file.read_row_group(group, columns=paths or [key]).column(0)
    return [_called(one) for one in found.to_pylist()]


def _called(value: object) -> object:
    if isinstance(value, list):
        return [_called(one) for one in value]
    if isinstance(value, dict):
        return value.get("path") or True
    return None if value is None else True


def _embedded(column: Callable[[int, str], pa.ChunkedArray], group: int, key: str, place: int, names: object) -> object:
    def one(position: int | None, called: object) -> Embedded | None:
        def fetch() -> bytes | None:
            try:
                value = column(group, key)[place]
                value = (value if position is None else value[position]).as_py()
            except _damage() as broken:
                raise SampleError(f"the picture is damaged ({_first_line(broken)}); export it again.") from None
            return value.get("bytes") if isinstance(value, dict) else value

        return Embedded(fetch, called if isinstance(called, str) else None) if called is not None else None

    if isinstance(names, list):
        return [found for position, called in enumerate(names) if (found := one(position, called)) is not None]
    return one(None, names)


def _damage() -> tuple[type[Exception], ...]:
    """What a damaged file brings out of pyarrow."""
    import pyarrow as pa

    return (pa.ArrowException, OSError, ValueError, LookupError, TypeError, OverflowError, MemoryError)


def _first_line(failure: Exception) -> str:
    return (str(failure).strip().splitlines() or [type(failure).__name__])[0][:200]
