"""Tables as CSV that a spreadsheet program can open without running anything that stands in them."""

from __future__ import annotations

import pandas as pd

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # what begins a formula, also behind an opening quote


def csv_of(table: pd.DataFrame) -> str:
    """The rows as CSV, without the index, and without formulas."""
    return without_formulas(table).to_csv(index=False)


def without_formulas(table: pd.DataFrame) -> pd.DataFrame:
    """The same table, where text that would be read as a formula has an apostrophe before it: for whatever a program of
    spreadsheets may get to see, as by the button above Streamlit's own tables."""
    safe = table.rename(columns=_plain)
    for place, column in enumerate(table.columns):
        if not pd.api.types.is_numeric_dtype(table[column]):
            safe.isetitem(place, table[column].map(_plain, na_action="ignore"))
    return safe


def _plain(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
