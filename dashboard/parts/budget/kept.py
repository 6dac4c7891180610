"""Allocations that the open run keeps under a name, whoever made them: to open again, and to keep the present one."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import streamlit as st

from dashboard.components import show_table
from dashboard.state import address, current_run, solving
from dashboard.words import names
from dashboard.words.plain import plain
from mode_core.allocation import Allocation, AllocationError
from mode_core.errors import in_words
from mode_core.importance import ImportanceError
from mode_core.runs.run import RunError


def part() -> None:
    """A table of them, and two actions."""
    damaged: dict[str, str] = {}
    known, statistics = current_run.run().allocations(damaged), current_run.statistics()
    for name, why in damaged.items():
        st.warning(f"{plain(name)}: damaged: {plain(why)}", icon=":material/broken_image:")
    if known:
        show_table(table(known))
        left, right = st.columns([2, 1], vertical_alignment="bottom")
        name = left.selectbox("Kept allocation", list(known), key="kept:name")
        if right.button("Take its settings", key="kept:open", width="stretch"):
            try:
                address.show(address.choices().opened(known[name], statistics))
            except ValueError as unknown:
                st.error(plain(unknown), icon=":material/error:")
            else:
                st.rerun()
    else:
        st.caption("This run keeps no allocation yet; those that 'mode_core allocate --name' makes appear here too.")
    if not current_run.writable():
        st.caption("The bundled run stays as it came: open a run of your own to keep allocations in it.")
        return
    left, right = st.columns([2, 1], vertical_alignment="bottom")
    wanted = left.text_input("Keep the present one as", key="kept:as", placeholder="three bits").strip()
    if right.button("Keep", key="kept:keep", width="stretch", disabled=not wanted):
        try:
            current_run.run().save_allocation(wanted, solving.allocation())
        except (RunError, AllocationError, ImportanceError, OSError) as refused:
            st.error(plain(in_words(refused)), icon=":material/error:")
        else:
            st.rerun()


def table(known: Mapping[str, Allocation]) -> pd.DataFrame:
    """One row per allocation: name, method in words, bits, size, scope and unit."""
    rows = [
        (
            name,
            names.short_method(one.method) or "–",
            one.average_bits,
            one.bytes and one.bytes / 1e6,
            names.SCOPES[one.scope],
            names.UNITS[one.unit],
        )
        for name, one in known.items()
    ]
    columns = ["name", "importance by", "average bits", "MB", "budget per", "one width for"]
    return pd.DataFrame(rows, columns=columns).round(3)
