"""Why an expert has its width: what each width costs, what a bit is worth here, what others would give, how sure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import streamlit as st

from dashboard.parts.budget import halves
from dashboard.state import current_run, estimating, solving
from dashboard.words import names
from dashboard.words.plain import plain
from mode_core.allocation import Allocation, AllocationError, worth_of_a_bit
from mode_core.importance import METHODS, CostTable, ImportanceError
from mode_core.request import AllocationRequest, Quantizer
from mode_core.statistics import ExpertStatistics


def part(bank: str, expert: int) -> None:
    """The reason in figures; what is dear to compute when it is asked for."""
    st.markdown("**Why this width?**")
    try:
        costs, found = solving.costs(), solving.allocation()
    except (AllocationError, ImportanceError) as impossible:
        st.caption(plain(impossible))
        return
    st.markdown(reason(costs, found, bank, expert))
    opened = st.expander("Other methods, and how sure", key="why", on_change="rerun", type="compact")
    if opened.open:
        with opened:
            others(bank, expert)


def reason(costs: CostTable, found: Allocation, bank: str, expert: int) -> str:
    """The sentence, and the cost of each width; the chosen one is set in bold."""
    widths = sorted(found.widths)
    own = costs[bank][expert]
    own = own.sum(axis=0) if own.ndim == 2 else own
    cost = {width: float(own[costs.bits.index(width)]) for width in widths}
    bits = found.bits[bank]
    if np.ndim(bits) == 2:
        given = " and ".join(
            f"{names_of} {width} bits" for names_of, width in zip(halves.HALVES, bits[expert], strict=True)
        )
        return f"{given} at {found.average_bits:.3g} bits on average."
    chosen = int(bits[expert])
    heads = [f"**{width} bits**" if width == chosen else f"{width} bits" for width in widths]
    cells = [f"**{cost[width]:.3g}**" if width == chosen else f"{cost[width]:.3g}" for width in widths]
    rows = ["| | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(widths), "| cost | " + " | ".join(cells) + " |"]
    table = "\n".join(rows)
    return f"{sentence(costs, found, bank, expert, chosen)}\n\n{table}"


def sentence(costs: CostTable, found: Allocation, bank: str, expert: int, chosen: int) -> str:
    """What a bit more or less would change, beside the price at which bits change hands."""
    told = f"**{chosen} bits** by {names.short_method(found.method)} at {found.average_bits:.3g} bits on average."
    if found.unit != "expert":
        return f"{told} It shares its width, so no price of its own decides."
    banks = [bank] if found.scope == "bank" else list(found.bits)
    order = np.argsort(costs.bits)
    kept = [column for column in order if costs.bits[column] in found.widths]
    table = np.concatenate([costs[name][:, kept] for name in banks])
    bits = np.concatenate([found.bits[name] for name in banks])
    gain, loss = worth_of_a_bit(table, [costs.bits[column] for column in kept], bits)
    at = expert + sum(len(found.bits[name]) for name in banks[: banks.index(bank)])
    if not np.isfinite(gain).any():
        return f"{told} Every expert has the widest width."
    up = "it has the widest" if np.isnan(gain[at]) else f"a bit more would save {gain[at]:.3g}"
    down = "it has the narrowest" if np.isnan(loss[at]) else f"a bit less would cost {loss[at]:.3g}"
    where = "this layer" if found.scope == "bank" else "the model"
    return f"{told} Price of a bit in {where}: {np.nanmax(gain):.3g}. Here {up}, {down}."


def others(bank: str, expert: int) -> None:
    """Bits by every method at this budget, and in how many parts of the samples the present ones hold."""
    rows = []
    for name, bits in given().items():
        own = bits[bank][expert]
        rows.append((names.short_method(name), " / ".join(map(str, np.ravel(own).tolist()))))
    st.dataframe(pd.DataFrame(rows, columns=["method", "bits"]), hide_index=True)
    stable = estimating.stability()
    if stable is None:
        st.caption("Too few samples to say how sure this is.")
        return
    tries = stable.bits[bank].shape[0]
    apart = round(float(np.max(stable.changed[bank][expert])) * tries)
    st.caption(
        f"{'Every' if not apart else f'{tries - apart} of {tries}'} tries that leave out a part of the samples "
        "give it the same."
    )


def given() -> dict[str, dict[str, np.ndarray]]:
    """Method → bank → bits at the present budget, the chosen method first."""
    return _given(current_run.run_key(), current_run.statistics(), solving.request(), solving.quantizer())


@st.cache_resource(max_entries=16, show_spinner="Solving for every method …")
def _given(
    key: tuple, _statistics: ExpertStatistics, asked: AllocationRequest, quantizer: Quantizer
) -> dict[str, dict[str, np.ndarray]]:
    found = {}
    known = [name for name, method in METHODS.items() if method.rival and method.available(_statistics)]
    for name in dict.fromkeys((asked.method, *known)):
        try:
            found[name] = solving.solve(replace(asked, method=name)).bits
        except (AllocationError, ImportanceError):
            continue  # it cannot be had at this budget, which Compare says
    return found
