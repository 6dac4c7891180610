"""The budget itself: its unit, and the slider that is dragged."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import streamlit as st

from dashboard.components import live_slider
from dashboard.state import address, solving
from dashboard.words.sizes import MemoryUnit, memory_unit

LABEL = "Budget for all routed experts"


def keep_in_range() -> None:
    """Other widths, or another run, may leave the budget outside of what can be met: move it to the nearest end."""
    now, widths = address.choices(), solving.widths()
    bits = min(max(now.request.budget, min(widths)), max(widths))
    low, high = (size / 1e6 for size in solving.size_range())
    size = now.megabytes if now.megabytes is None else min(max(now.megabytes, low), high)
    if (bits, size) != (now.request.budget, now.megabytes):
        address.adjust(average_bits=float(bits), megabytes=size)


def row() -> st.delta_generator.DeltaGenerator:
    """Draws the choice of the unit; returns where the slider is to stand."""
    left, right = st.columns([3, 1], vertical_alignment="center")
    right.segmented_control(
        "Budget in", ("bits", "MB"), required=True, width="stretch", **address.bind("budget_unit"),
        format_func={"bits": "Average bits", "MB": _unit().words}.get,
    )  # fmt: skip
    return left.container()


def draw(follow: Callable[[], str]) -> None:
    """The slider, in the unit chosen."""
    widths = solving.widths()
    if len(widths) == 1:
        st.info(f"With {widths[0]} bits alone there is nothing to share out; choose another width beside it.")
    elif address.choices().budget_unit == "MB":
        _in_memory(_unit(), follow)
    else:
        live_slider(
            LABEL, low=float(min(widths)), high=float(max(widths)), step=0.01, decimals=2, unit=" bits on average",
            value=address.choices().request.budget, key="average-bits", follow=follow,
            on_change=lambda bits: address.choose(average_bits=round(bits, 2), megabytes=None),
        )  # fmt: skip


def _unit() -> MemoryUnit:
    return memory_unit(solving.size_range()[1])


def _in_memory(unit: MemoryUnit, follow: Callable[[], str]) -> None:
    low, high = (size / unit.size for size in solving.size_range())
    decimals = max(0, 2 - int(np.floor(np.log10(max(high - low, 1e-6)))))
    ends = [float(np.ceil(end * 10**decimals) / 10**decimals) for end in (low, high)]
    live_slider(
        LABEL, low=ends[0], high=ends[1], step=10.0**-decimals, decimals=decimals, unit=f" {unit.name}",
        value=1e6 * solving.megabytes() / unit.size, key="megabytes", follow=follow,
        on_change=lambda amount: address.choose(megabytes=amount * unit.size / 1e6),
    )  # fmt: skip
