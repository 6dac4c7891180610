"""The tables among named files: which of them hold samples, and their entries."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from functools import partial
from itertools import islice

from mode_core.files import LFS_POINTER
from mode_core.samples.files import Files
from mode_core.samples.images import POINTER_WORDS, SampleError
from mode_core.samples.json_tables import Rows, read_json
from mode_core.samples.parquet_tables import read_parquet
from mode_core.samples.sheets import read_sheet
from mode_core.samples.turns import has_text
from mode_core.samples.without_samples import foreign, foreign_file

TABLE_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
PREFERRED = "samples.jsonl"
PEEKED = 3  # entries of a table that are looked at to tell whether it holds samples


def entries(table: str, files: Files) -> Rows:
    """The entries of a table, whichever form it has; where they stand is told with the table's name."""
    reopen = partial(files.open, table)
    suffix = posixpath.splitext(table.lower())[1]
    with reopen() as stream:
        begins = stream.read(len(LFS_POINTER))
    if begins == LFS_POINTER:
        yield table, SampleError(POINTER_WORDS)
    elif suffix == ".parquet":
        yield from read_parquet(table, reopen)
    elif suffix in (".csv", ".tsv"):
        yield from read_sheet(table, reopen)
    else:
        with reopen() as stream:
            yield from read_json(table, stream)


def sample_tables(files: Files, notes: list[str]) -> list[str]:
    """The tables to read: `samples.jsonl`, else those that hold samples, here or one folder down; those that are passed
    over are named in `notes`.

    Raises:
        SampleError: tables in several folders further down; which ones. Archives beside tables without samples.
    """
    here = _tables(files.names())
    best = [table for table in here if posixpath.basename(table) == PREFERRED] or [
        table for table in here if _holds_samples(table, files)
    ]
    if not best and (below := _tables(files.below())):
        tables = [table for table in below if _holds_samples(table, files)]
        folders = sorted({posixpath.dirname(table) for table in tables})
        if len(folders) > 1:
            raise SampleError(f"the tables lie in several folders ({', '.join(folders[:8])}); give one of them.")
        best = [table for table in tables if posixpath.basename(table) == PREFERRED] or tables
    if not best:
        if here and (told := next((told for name in files.names() if (told := foreign_file(name))), None)):
            raise SampleError(told)
        return here
    notes += [f"{table} was passed over: {_why(table, best, files)}" for table in here if table not in best]
    return best


def _tables(names: list[str]) -> list[str]:
    return [name for name in names if name.lower().endswith(TABLE_SUFFIXES)]


def _holds_samples(table: str, files: Files) -> bool:
    """Is one of the first entries one that could be a sample, or one that cannot be read?"""
    first = [entry for _, entry in islice(entries(table, files), PEEKED)]
    return any(isinstance(e, SampleError) or (isinstance(e, Mapping) and has_text(e)) for e in first)


def _why(table: str, best: list[str], files: Files) -> str:
    if posixpath.basename(best[0]) == PREFERRED:
        return f"{best[0]} is read."
    first = next((entry for _, entry in entries(table, files)), None)
    return (foreign(first) if isinstance(first, Mapping) else None) or "it holds no samples."


def nothing_to_read(called: str, names: list[str]) -> str:
    """Why there is nothing to read among these files."""
    if told := next((told for name in names if (told := foreign_file(name))), None):
        return told
    held = ", ".join(names[:5]) or "nothing"
    return f"{called} holds no samples.jsonl, no table and no pictures (it holds: {held})."
