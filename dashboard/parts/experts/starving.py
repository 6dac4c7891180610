"""What counting all tokens alike does to the experts that text needs: how many, how surely, and what it costs them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import streamlit as st

from dashboard import charts
from dashboard.charts.measures import starved, starved_cells
from dashboard.components import show_table
from dashboard.parts.controls import next_step, scroll_later
from dashboard.state import address, current_run, estimating, solving
from dashboard.state.remembered import remembered
from dashboard.words import tables
from mode_core.importance import ImportanceError
from mode_core.importance.bias import busiest_ranks, starved_total
from mode_core.importance.folds import Interval, over_folds
from mode_core.modalities import ALL, TEXT_TOKENS, VISION_TOKENS
from mode_core.statistics import ExpertStatistics


def headline(grid: charts.FrequencyGrid) -> None:
    """The page's title, the ways on beside it, and what counting all tokens hides most, as a sentence."""
    beside = st.container(horizontal=True, vertical_alignment="center")
    beside.title("Experts", width="content")
    low, looked = starved(grid)
    if not np.nan_to_num(grid.counts[VISION_TOKENS]).any():
        st.markdown("**No vision tokens were routed in this run**, so there is nothing to compare with text.")
        return
    total, looked = int(low.sum()), int(looked.sum())
    if not total:
        st.markdown("In no layer does counting all tokens push a busy text expert into the lower half.")
        return
    found, doubt = consequence(grid), few(total, looked)
    st.markdown(
        f"**{total} of the {looked} busiest text experts are in the lower half of their layer when all tokens are "
        f"counted together**{reach(looked)}. {found.sentence(total)}{f' :orange[{doubt}]' if doubt else ''}"
    )
    with beside:
        if found.shown is not None:
            row, expert = found.shown
            st.button(
                f"Look at layer {grid.axes.ticks[row]}, expert {expert}",
                key="worst",
                type="tertiary",
                icon=":material/arrow_downward:",
                help=found.why,
                on_click=lambda: _look_at(grid.axes.names[row], expert),
            )
        with st.popover(f"Which {total}?", type="tertiary", on_change="rerun", key="starved") as shown:
            if shown.open:
                st.caption("Among the busiest for text, but in the lower half by all tokens counted together.")
                rows = tables.starved_table(grid).drop(columns="bank")
                show_table(rows, width=460, height=min(36 * (total + 1) + 2, 530))
        next_step("Give every expert its bits", "budget")


def _look_at(bank: str, expert: int) -> None:
    """Choose an expert from the top of the page, and bring its close-up into view."""
    current_run.select(bank=bank, expert=expert)
    scroll_later("close-up")


@dataclass(frozen=True)
class Consequence:
    """What `frequency` gives the starved experts at a budget: how many of them fewer bits than MODE, and one of these
    (row, expert), the one that falls furthest; None where there is none."""

    bits: float
    fewer: int | None
    shown: tuple[int, int] | None
    why: str = ""

    def sentence(self, total: int) -> str:
        """The computed claim; empty where no allocation can be had."""
        if self.fewer is None:
            return ""
        some = f"**{self.fewer}** of them" if self.fewer else "none of them"
        return f"At {self.bits:.3g} bits on average, counting gives {some} fewer bits than the paper's MODE does."


def consequence(grid: charts.FrequencyGrid) -> Consequence:
    """Both allocations solved at the budget of the Budget page, expert by expert, as in the paper."""
    bits = solving.bits_asked()
    paper = estimating.PAPER | {"key_ratio": address.choices().request.key_ratio}
    plain = replace(solving.request(), unit="expert", budget=bits, measure="bits", pins=(), **paper)
    if max(solving.widths()) == min(solving.widths()):
        return Consequence(bits, None, None)
    mode, counted = (solving.solve(replace(plain, method=name)).bits for name in ("mode", "frequency"))
    ours, theirs = (grid.axes.stack(each) for each in (mode, counted))
    robbed = starved_cells(grid) & (theirs < ours)
    if not robbed.any():
        return Consequence(bits, 0, None)
    fallen = busiest_ranks(grid.shares[ALL]) - busiest_ranks(grid.shares[TEXT_TOKENS])
    row, expert = np.unravel_index(np.argmax(np.where(robbed, fallen, -np.inf)), robbed.shape)
    why = f"Counting gives it {theirs[row, expert]:.0f} bits, the paper's MODE {ours[row, expert]:.0f}."
    return Consequence(bits, int(robbed.sum()), (int(row), int(expert)), why)


def interval(looked: int) -> tuple[int, int] | None:
    """95 % interval of the number of starved experts by the folds, in 0 to `looked`; None where there are too few, or
    traffic that has none."""
    if current_run.profile() is not None:
        return None
    now = address.choices().request
    try:
        found = _interval(current_run.run_key(), current_run.statistics(), now.key_ratio, now.signal)
    except ImportanceError:
        return None
    return max(0, int(np.floor(found.low))), min(looked, int(np.ceil(found.high)))


def reach(looked: int) -> str:
    """The interval in words."""
    found = interval(looked)
    return "" if found is None else f" (95 % interval over samples: {found[0]} to {found[1]})"


def few(total: int, looked: int) -> str:
    """A warning where other samples might have said something quite different; empty where not."""
    samples, found = len(current_run.statistics().samples), interval(looked)
    if current_run.profile() is not None:
        return ""
    if found is None:
        return f"{samples} samples are too few to say how sure this is."
    if found[1] - found[0] > total:
        return f"{samples} samples are few for this: with others of the same kind it might be {found[0]} or {found[1]}."
    return ""


@remembered(64)
def _interval(key: tuple, _statistics: ExpertStatistics, key_ratio: float, signal: str) -> Interval:
    """Of the number of starved experts."""
    return over_folds(
        _statistics, lambda fold: starved_total(_statistics, key_ratio, signal, TEXT_TOKENS, ALL, fold)[0]
    )
