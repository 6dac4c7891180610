"""Why an expert has its width: what each width costs, what a bit is worth here, what others would give, how sure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import streamlit as st

from dashboard.components import show_table
from dashboard.parts.budget import halves
from dashboard.state import current_run, estimating, solving
from dashboard.words import names
from dashboard.words.plain import plain
from dashboard.words.sizes import power_of_ten
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
    """The sentence, and the cost of each width, the chosen one's in bold."""
    widths, own, bits = sorted(found.widths), costs[bank][expert], found.bits[bank][expert]
    if np.ndim(bits):
        given = " and ".join(f"**{width} bits** for {half}" for half, width in zip(halves.HALVES, bits, strict=True))
        return f"{given}, at {found.average_bits:.3g} bits on average."
    cost = {width: float(own[costs.bits.index(width)]) for width in widths}
    told, unit = in_one_unit(max(cost.values()))
    cells = [f"**{told(cost[width])}**" if width == bits else told(cost[width]) for width in widths]
    heads = [f"{'▸ ' * bool(width == bits)}{width} bits" for width in widths]
    rows = [
        "| | " + " | ".join(heads) + " |",
        "|---|" + "---:|" * len(widths),
        f"| damage{', ' * bool(unit)}{unit} | " + " | ".join(cells) + " |",
    ]
    return f"{sentence(costs, found, bank, expert, lambda cost: told(cost) + unit)}\n\n" + "\n".join(rows)


def in_one_unit(largest: float) -> tuple[Callable[[float], str], str]:
    """What writes costs of this size without a power of ten in each of them, and that power."""
    power = 3 * int(np.floor(np.log10(largest) / 3)) if largest > 0 else 0
    return lambda cost: f"{cost / 10.0**power:.3g}", power_of_ten(power) * (power != 0)


def sentence(costs: CostTable, found: Allocation, bank: str, expert: int, told: Callable[[float], str]) -> str:
    """What a bit more or less would change, beside the price at which bits change hands."""
    chosen = int(found.bits[bank][expert])
    start = f"**{chosen} bits** by {names.method(found.method)}, at {found.average_bits:.3g} bits on average."
    if found.unit != "expert":
        return f"{start} It shares its width with others, so its own costs alone do not decide."
    banks = [bank] if found.scope == "bank" else list(found.bits)
    kept = [costs.bits.index(width) for width in sorted(found.widths)]
    table, bits = (np.concatenate([held[name] for name in banks]) for held in (costs, found.bits))
    gain, loss = worth_of_a_bit(table[:, kept], sorted(found.widths), bits)
    at = expert + sum(len(found.bits[name]) for name in banks[: banks.index(bank)])
    if not np.isfinite(gain).any():
        return f"{start} Every expert has the widest width."
    up = "there is no wider one" if np.isnan(gain[at]) else f"a bit more would save {told(gain[at])}"
    down = "there is no narrower one" if np.isnan(loss[at]) else f"a bit less would cost {told(loss[at])}"
    where = "this layer" if found.scope == "bank" else "the model"
    price = f"elsewhere in {where} the next bit saves {told(np.nanmax(gain))} at most"
    return f"{start} By predicted damage, {up} here, and {down}; {price}."


def others(bank: str, expert: int) -> None:
    """Bits by every method at this budget, and in how many parts of the samples the present ones hold."""
    rows = []
    for name, bits in given().items():
        own = bits[bank][expert]
        rows.append((names.method(name), " / ".join(map(str, np.ravel(own).tolist()))))
    show_table(pd.DataFrame(rows, columns=["method", "bits"]))
    stable = estimating.stability()
    if stable is None:
        st.caption("How sure this is cannot be told: too few samples, or traffic, which has no parts to leave out.")
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
