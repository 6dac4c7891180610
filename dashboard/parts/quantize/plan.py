"""What is to be measured: the allocation and uniform bits of its size, with their predicted sizes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import streamlit as st

from dashboard.parts.budget.halves import is_split
from dashboard.state import current_run, estimating, solving
from dashboard.words import names
from dashboard.words.sizes import size_text
from mode_core.allocation import Allocation


def part() -> tuple[Allocation, Allocation]:
    """The allocation and its rival; the model computes nothing here."""
    chosen = solving.allocation()
    uniform = solving.uniform_like(chosen)
    statistics, quantizer = current_run.statistics(), solving.quantizer()
    counts = Counter(np.concatenate([bits.ravel() for bits in chosen.bits.values()]).tolist())
    sizes = [quantizer.packed_bytes(statistics, allocation.bits) for allocation in (chosen, uniform)]
    cells = st.columns(4)
    cells[0].metric(
        "Method", names.method(chosen.method), help="Chosen on the Budget page, as are the budget and the widths."
    )
    cells[1].metric(
        "Average bits",
        f"{chosen.average_bits:.2f}",
        f"{estimating.effective_bits(chosen):.2f} with scales",
        delta_color="off",
        delta_arrow="off",
    )
    cells[2].metric(
        "Experts, predicted", size_text(sizes[0]), help="Packed codes, scales and zero points of all experts."
    )
    cells[3].metric(
        "Uniform, same size",
        size_text(sizes[1]),
        estimating.uniform_name(uniform).partition(" ")[2],
        delta_color="off",
        delta_arrow="off",
    )
    entries = names.of_experts(is_split(chosen.bits))
    spread = " · ".join(f"{counts[width]:,} {entries} at {width} bits" for width in sorted(counts))
    st.caption(f"{spread}. The rival: {estimating.uniform_name(uniform)}, of the same size.")
    return chosen, uniform
