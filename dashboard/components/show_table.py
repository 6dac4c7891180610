"""A table on the screen. A button above it offers it as CSV, so it may hold nothing that a spreadsheet would run."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from mode_core.csv_files import without_formulas


def show_table(table: pd.DataFrame, **how: Any) -> Any:
    """Show a table without its index and without formulas, empty where there is no value; `how` and what is returned
    are `st.dataframe`'s."""
    return st.dataframe(without_formulas(table), hide_index=True, placeholder="", **how)
