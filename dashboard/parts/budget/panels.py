"""Panels below the settings, one at a time: pins, prices, the card's memory, scenarios, traffic, enough samples?"""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboard import charts
from dashboard.components import chart, show_table
from dashboard.parts import served
from dashboard.parts.budget import deployment, kept, pins
from dashboard.parts.controls import next_step
from dashboard.state import address, current_run, estimating, planning, solving
from dashboard.words import names
from dashboard.words.plain import plain
from mode_core.allocation import AllocationError, Price
from mode_core.importance import ImportanceError


def part() -> None:
    """One of the panels, when it is asked for; beside them what comes after the budget."""
    axes, held = charts.Axes.of(current_run.statistics()), address.choices().request.pins
    panels = {
        "pins": (f"Pinned experts ({len(held)})" if held else "Pin experts", lambda: pins.part(axes)),
        "prices": ("Price of each choice", price_part),
        "card": ("Memory of the card", deployment.memory_panel),
        "kept": ("Scenarios", kept.part),
        "traffic": ("Traffic", served.part),
        "samples": ("Are these samples enough?", samples_part),
    }
    chooser, links = st.columns([5, 2], vertical_alignment="center")
    which = chooser.pills(
        "More", list(panels), format_func=lambda name: panels[name][0], label_visibility="collapsed", wrap=True,
        **address.bind_place("panel", list(panels), None),
    )  # fmt: skip
    with links.container(horizontal=True, horizontal_alignment="right"):
        next_step("Measure it", "quantize")
        next_step("Export it", "export")
    if which is not None:
        with st.container(border=True):
            panels[which][1]()


def samples_part() -> None:
    """What fewer samples would have come to at these settings, as a curve."""
    try:
        found = estimating.enough()
    except (ImportanceError, AllocationError) as refused:
        st.caption(plain(refused))
        return
    chart(charts.sufficiency_curve(found), "sufficiency", table=lambda: pd.DataFrame([vars(one) for one in found]))


def price_part() -> None:
    """What each unit and scope costs at this budget, against the present choice."""
    show_table(price_table(planning.prices(), solving.allocation().objective))
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
                "one width for": names.UNITS[price.unit],
                "budget for": names.SCOPES[price.scope].lower(),
                "predicted damage": None if found is None else found.objective,
                "times this choice": price.times(present),
                "average bits": None if found is None else found.average_bits,
                "note": price.refused,
            }
        )
    return pd.DataFrame(rows).round({"times this choice": 3, "average bits": 3})
