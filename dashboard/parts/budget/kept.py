"""Allocations that the open run keeps under a name, whoever made them, as cards: to look at, set against each
other, take along as a table, open again, and to keep the present one."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import streamlit as st

from dashboard import charts
from dashboard.components import chart, show_table
from dashboard.parts.budget import halves
from dashboard.parts.budget.budget_words import by_kind, interval
from dashboard.parts.export import paper_texts
from dashboard.state import address, current_run, estimating, process_wide, solving
from dashboard.state.choices import describe
from dashboard.state.measured import ALLOCATION, Measurement
from dashboard.words import names, tables
from dashboard.words.plain import plain
from dashboard.words.sizes import number, size_text
from mode_core.allocation import Allocation, AllocationError
from mode_core.csv_files import csv_of
from mode_core.errors import ModeError, in_words
from mode_core.importance import ImportanceError
from mode_core.request import AllocationRequest
from mode_core.runs.run import RunError

CARD = 250  # pixels


def part() -> None:
    """Cards and a table of them, two on one map, and two actions."""
    damaged: dict[str, str] = {}
    known, statistics = current_run.run().allocations(damaged), current_run.statistics()
    for name, why in damaged.items():
        st.warning(f"{plain(name)}: damaged: {plain(why)}", icon=":material/broken_image:")
    if known:
        rows = table(known)
        cards(rows)
        difference(known)
        show_table(rows)
        downloads(rows)
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


def cards(rows: pd.DataFrame) -> None:
    """One card for each row of `table`: what was asked, what is predicted, what was measured, how large it is."""
    with st.container(horizontal=True, gap="small"):
        for row in rows.to_dict("records"):
            with st.container(border=True, width=CARD, gap=None):
                size = size_text(row["bytes"]) if pd.notna(row["bytes"]) else "size not known"
                st.markdown(f"**{plain(row['name'])}**")
                st.caption(f"{plain(row['asked'])}. {size}.")
                st.caption(f"Predicted: {plain(row['predicted'])}")
                measured = row["measured"]
                st.caption(f"**Measured**: {measured}" if measured else "Not measured with the present quantizer.")


def difference(known: Mapping[str, Allocation]) -> None:
    """Two of them on one map: bits of the first minus bits of the second."""
    two = st.multiselect("Difference map of two", list(known), max_selections=2, key="kept:two")
    if len(two) < 2:
        return
    one, other = (known[name] for name in two)
    axes = charts.Axes.of(current_run.statistics())
    first, second = one.bits, other.bits
    if halves.is_split(first) or halves.is_split(second):
        axes, first, second = halves.split_axes(axes), halves.split_bits(first), halves.split_bits(second)
    chart(charts.bits_difference(axes, first, second, (two[0], two[1])), "difference",
          table=lambda: tables.moves_table(axes, second, first))  # fmt: skip


def downloads(rows: pd.DataFrame) -> None:
    """The table for a paper."""
    place, stem = st.container(horizontal=True), solving.stem("scenarios")
    place.download_button("Table as CSV", csv_of(rows).encode(), f"{stem}.csv", "text/csv", on_click="ignore",
                          key="kept:csv", type="tertiary")  # fmt: skip
    place.download_button("Table as LaTeX", paper_texts.table(rows, "Allocations", "scenarios").encode(),
                          f"{stem}.tex", "text/x-tex", on_click="ignore", key="kept:tex", type="tertiary")  # fmt: skip


def table(known: Mapping[str, Allocation]) -> pd.DataFrame:
    """One row per allocation: name, what was asked, bits, bytes, and its damage, predicted and, where it is known,
    measured."""
    measured = {one.fingerprint: one for one in process_wide.measurements()}
    rows = [
        (
            name,
            _asked(one),
            round(one.average_bits, 3),
            one.bytes,
            names.SCOPES[one.scope],
            names.UNITS[one.unit],
            _predicted(one),
            _measured(measured.get(solving.fingerprint(one))),
        )
        for name, one in known.items()
    ]
    columns = ["name", "asked", "average bits", "bytes", "budget per", "one width for", "predicted", "measured"]
    return pd.DataFrame(rows, columns=columns)


def _asked(one: Allocation) -> str:
    try:
        return describe({"request": AllocationRequest.of(one, current_run.statistics()).to_dict()})
    except ValueError:  # nobody asked for it in these words: uniform bits, or made elsewhere
        return names.method(one.method) or "of unknown origin"


def _predicted(one: Allocation) -> str:
    try:
        found = estimating.predict(one)
    except ModeError as refused:
        return f"not known ({refused})"
    if not found.kl:
        return f"{interval(found.relative)} of every expert at the lowest width"
    return f"{by_kind(found)}, {found.unit}"


def _measured(one: Measurement | None) -> str:
    if one is None:
        return ""
    kl = one.scores[ALLOCATION].kl_by_modality
    return ", ".join(f"{number(kl[kind])} {words}" for kind, words in names.ON.items() if kind in kl) + ", nats"
