"""Experts that keep a width whatever the solver would choose."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboard import charts
from dashboard.state import address, current_run, planning, solving


def part(axes: charts.Axes) -> None:
    """A table to fill in."""
    held = address.choices().request.pins
    if strange := planning.strange_pins():
        told = ", ".join(f"layer {axes.ticks[b] if b < len(axes.ticks) else b}, expert {e}" for b, e, _ in strange[:3])
        st.caption(f":material/keep_off: {len(strange)} pins do not fit this run or these widths and wait: {told}.")
    st.caption("Each row keeps one expert at a width of your choice; the others share what is left of the budget.")
    rows = pd.DataFrame(
        [(axes.ticks[bank], expert, bits) for bank, expert, bits in held if bank < len(axes.ticks)],
        columns=["layer", "expert", "bits"],
    ).astype({"layer": "object", "expert": "Int64", "bits": "Int64"})
    st.data_editor(
        rows,
        num_rows="dynamic",
        hide_index=True,
        height=220,
        placeholder="",
        key="pins-table",
        column_config={
            "layer": st.column_config.SelectboxColumn("Layer", options=axes.ticks, required=True),
            "expert": st.column_config.NumberColumn(
                "Expert", min_value=0, max_value=max(axes.experts) - 1, step=1, required=True
            ),
            "bits": st.column_config.SelectboxColumn("Bits", options=list(solving.widths()), required=True),
        },
        on_change=lambda: _take_pins(axes, rows),
    )
    bank, expert = current_run.selected()
    left, right = st.columns(2)
    left.button(
        f"Pin expert {expert} of layer {axes.ticks[axes.names.index(bank)]} at {max(solving.widths())} bits",
        key="pin-selected",
        help="The expert that is selected under Experts.",
        on_click=lambda: _pin(axes.names.index(bank), expert, max(solving.widths())),
    )
    right.button("Unpin all", key="unpin", disabled=not held, on_click=lambda: address.choose(pins=()))


def _pin(bank: int, expert: int, bits: int) -> None:
    kept = {pin[:2]: pin for pin in address.choices().request.pins} | {(bank, expert): (bank, expert, bits)}
    address.choose(pins=tuple(sorted(kept.values())))


def _take_pins(axes: charts.Axes, rows: pd.DataFrame) -> None:
    """The edited table as pins; rows that are not filled in yet wait."""
    edits = st.session_state["pins-table"]
    records = rows.to_dict("records")
    for place, change in edits["edited_rows"].items():
        records[int(place)] |= change
    records = [record for place, record in enumerate(records) if place not in edits["deleted_rows"]]
    address.choose(pins=pins_of(axes, records + edits["added_rows"]))


def pins_of(axes: charts.Axes, records: list[dict]) -> tuple[tuple[int, int, int], ...]:
    """Rows layer, expert, bits → (bank number, expert, bits), sorted; unfinished and impossible rows are left out,
    and of two rows for one expert the later one counts."""
    found: dict[tuple[int, int], tuple[int, int, int]] = {}
    for record in records:
        values = [record.get(name) for name in ("layer", "expert", "bits")]
        if any(pd.isna(value) for value in values) or values[0] not in axes.ticks:
            continue
        bank, expert, bits = axes.ticks.index(values[0]), int(values[1]), int(values[2])
        if expert < axes.experts[bank]:
            found[bank, expert] = (bank, expert, bits)
    return tuple(sorted(found.values()))
