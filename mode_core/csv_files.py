"""Tables as CSV that a spreadsheet program can open without running anything that stands in them."""

from __future__ import annotations

import pandas as pd

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # what begins a formula, also behind an opening quote


def csv_of(table: pd.DataFrame) -> str:
    """The rows as CSV, without the index; text that would be read as a formula gets an apostrophe before it."""
    safe = table.rename(columns=_plain)
    for place, column in enumerate(table.columns):
        if not pd.api.types.is_numeric_dtype(table[column]):
            safe.isetitem(place, table[column].map(_plain, na_action="ignore"))
    return safe.to_csv(index=False)


def _plain(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
