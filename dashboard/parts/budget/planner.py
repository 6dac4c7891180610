"""Parts of the Budget page beside the slider: pinned experts, the price of each choice, and a card to fit."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboard import charts
from dashboard.charts.memory import in_words, memory_bar, memory_parts
from dashboard.components import chart
from dashboard.parts.budget import kept
from dashboard.parts.controls import next_step
from dashboard.state import address, current_run, estimating, planning, solving
from dashboard.words.plain import plain
from mode_core.allocation import AllocationError, Price
from mode_core.importance import ImportanceError
from mode_core.memory import GPUS
from mode_core.models.errors import ModelError

UNIT_NAMES = {
    "expert_projection": "Expert's half",
    "expert": "Expert",
    "projection": "Layer's half",
    "layer": "Layer",
}
UNIT_HELP = (
    "What shares one bit-width. **Expert** (the paper): AutoRound-format and GPTQModel checkpoints in transformers. "
    "**Layer's half** (all gates and ups, or all downs, of a layer): GGUF for llama.cpp, MLX. **Layer**: "
    "compressed-tensors for vLLM, and most serving engines. **Expert's half**: no engine reads it yet; it shows what "
    "would be gained. Damage by halves is divided by the weights' own rounding errors, an estimate."
)
SCOPE_NAMES = {"bank": "each layer", "model": "whole model"}
CONTEXTS = (2048, 8192, 32_768, 131_072)
WIDTHS = (16, 8, 6, 5, 4, 3, 2)  # 16: untouched


def more(axes: charts.Axes) -> None:
    """One of the panels, when it is asked for."""
    now = address.choices()
    titles = {
        "pins": f"Pinned experts ({len(now.request.pins)})" if now.request.pins else "Pin experts",
        "prices": "Price of each choice",
        "card": "Fit a GPU" if now.gpu is None else f"Fit {now.gpu} GiB",
        "kept": "Kept allocations",
        "samples": "Are these samples enough?",
    }
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        which = st.segmented_control(
            "More", list(titles), format_func=titles.get, label_visibility="collapsed",
            **address.bind_place("panel", list(titles), None),
        )  # fmt: skip
        with st.container(horizontal=True, width="content"):
            next_step("Measure it", "quantize")
            next_step("Take it along", "export")
    if which is not None:
        with st.container(border=True):
            {
                "pins": lambda: pin_part(axes),
                "prices": price_part,
                "card": card_part,
                "kept": kept.part,
                "samples": samples_part,
            }[which]()


def samples_part() -> None:
    """What fewer samples would have come to at these settings, as a curve."""
    try:
        found = estimating.enough()
    except (ImportanceError, AllocationError) as refused:
        st.caption(plain(refused))
        return
    chart(charts.sufficiency_curve(found), "sufficiency", table=lambda: pd.DataFrame([vars(one) for one in found]))


def pin_part(axes: charts.Axes) -> None:
    """Experts that keep a width whatever the solver would choose, as a table to fill in."""
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


def price_part() -> None:
    """What each unit and scope costs at this budget, against the present choice."""
    st.dataframe(price_table(planning.prices(), solving.allocation().objective), hide_index=True)
    st.caption(
        "Predicted damage (estimate) at the same budget, each solved exactly. A coarser unit has fewer choices, so "
        "it never does less; one budget for the whole model is only sound with a method that compares layers."
    )


def price_table(prices: list[Price], present: float) -> pd.DataFrame:
    """One row per unit and scope: predicted damage, times the present one, bits spent, or why not."""
    rows = []
    for price in prices:
        found = price.allocation
        rows.append(
            {
                "one width for": UNIT_NAMES[price.unit],
                "budget for": SCOPE_NAMES[price.scope],
                "predicted damage": None if found is None else found.objective,
                "times this choice": price.times(present),
                "average bits": None if found is None else found.average_bits,
                "note": price.refused,
            }
        )
    return pd.DataFrame(rows).round({"times this choice": 3, "average bits": 3})


def card_part() -> None:
    """A card to fit: what surrounds the experts, and the budget that is left for them."""
    now = address.choices()
    _card_settings()
    if now.gpu is None:
        st.caption("Choose a card to see how its memory divides, and to take the budget from it.")
        return
    try:
        fit = planning.card_fit()
    except (ValueError, OSError, ModelError, ImportanceError) as unknown:
        st.error(plain(unknown), icon=":material/error:")
        return
    chart(memory_bar(fit), "memory", table=lambda: pd.DataFrame(memory_parts(fit).items(), columns=["part", "bytes"]))
    low, high = solving.size_range()
    if fit.for_experts < low:
        st.error(
            f"Even at {min(solving.widths())} bits the experts take {in_words(low)}, and beside the rest "
            f"{in_words(max(0, fit.for_experts))} are left. Add a smaller width, shorten the context, or choose a "
            "larger card.",
            icon=":material/error:",
        )
        return
    budget = min(fit.for_experts, high)
    words = "the widest width of all fits" if fit.for_experts >= high else "all of what is left"
    st.button(
        f"Take the budget from this card: {in_words(budget)} ({words})",
        key="take-card",
        on_click=lambda: address.choose(budget_unit="MB", megabytes=budget / 1e6),
    )


def _card_settings() -> None:
    card, context, attention, shared = st.columns(4, vertical_alignment="bottom")
    card.selectbox(
        "Card",
        (0, *GPUS),
        format_func=lambda size: f"{size} GiB" if size else "none",
        **address.bind("gpu", shown=lambda size: size or 0, meant=lambda size: size or None),
    )
    context.selectbox(
        "Context",
        sorted({*CONTEXTS, address.choices().context}),
        format_func=lambda tokens: f"{tokens:,} tokens",
        help="Text and vision tokens of one conversation that the KV cache has room for, at 2 bytes a number.",
        accept_new_options=False,
        **address.bind("context"),
    )
    for place, name, field in ((attention, "Attention", "attention_bits"), (shared, "Shared experts", "shared_bits")):
        place.selectbox(
            name,
            WIDTHS,
            format_func=lambda bits: (
                "untouched" if bits is None else f"{bits} bits" + (" (paper)" if bits == 4 else "")
            ),
            help="The paper's released code rounds attention and shared experts to 4 bits.",
            **address.bind(field, shown=lambda bits: bits or 16, meant=lambda bits: None if bits == 16 else bits),
        )
