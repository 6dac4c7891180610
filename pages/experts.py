"""Experts: who uses which expert, by kind of token, beside what quantizing it would break."""

from __future__ import annotations

import numpy as np
import streamlit as st

from dashboard import charts
from dashboard.charts.measures import divergences, starved
from dashboard.components import changes, chart
from dashboard.parts.controls import key_ratio_slider, next_step, scroll_later, scroll_now
from dashboard.parts.experts import exemplars, starving
from dashboard.state import address, current_run, solving
from dashboard.words import names, tables
from dashboard.words.glossary import explain


def page() -> None:
    """Everything below the title follows the controls without a rerun of the whole page."""
    current_run.statistics()  # says what to do where there is no run yet
    st.title("Experts")
    explore()


@st.fragment
def explore() -> None:
    """Controls on top, then the maps, the bias of counting, and one expert close up."""
    sentence, controls = st.container(), st.container()
    statistics, now = current_run.statistics(), address.choices().request
    grid = frequency_grid()
    sensitivity = charts.SensitivityGrid.of(statistics, now.key_ratio, now.signal)
    with controls:
        slot, view, order, bits = draw_controls(sensitivity.bits)
    with sentence:
        headline(grid)
    bank, expert = current_run.selected()
    place = (grid.axes.names.index(bank), expert)
    maps(grid, sensitivity, view, order, bits, place)
    close_up(grid, sensitivity, place)

    def follow() -> str:
        """What every step of the dragged key ratio changes."""
        return changes({"frequencies": charts.frequency_heatmaps(frequency_grid(), view, order, place)})

    with slot:
        key_ratio_slider(follow)
    scroll_now()


def frequency_grid() -> charts.FrequencyGrid:
    """Shares of every kind of token under the present key ratio and signal."""
    now = address.choices().request
    return charts.FrequencyGrid.of(current_run.statistics(), solving.frequencies(), now.key_ratio, now.signal)


def draw_controls(widths: tuple[int, ...]) -> tuple[st.container, str, str, int]:
    """The slider's place, and the view, order and width chosen."""
    left, right = st.columns([2, 1], vertical_alignment="bottom")
    known = [*current_run.statistics().signals, "none"]
    right.selectbox(
        "Redundancy signal",
        known,
        format_func=names.signal,
        help=explain("redundancy signal"),
        **address.bind("signal"),
    )
    with st.container(horizontal=True, gap="medium"):
        view = _switch("Show", charts.VIEWS, "share", "view")
        order = _switch("Order of experts", charts.ORDERS, "index", "order")
        labels = {width: f"{width} bits" if width > 1 else "1 bit" for width in widths}
        bits = _switch("Error at", labels, _middle(widths), "width")
    return left.container(), view, order, bits


def _switch(label: str, options: dict, default, name: str):
    """A choice of view that stands in the address under `name`."""
    bound = address.bind_place(name, list(options), default)
    return st.segmented_control(label, list(options), format_func=options.get, required=True, **bound)


def _middle(widths: tuple[int, ...]) -> int:
    return 3 if 3 in widths else sorted(widths)[len(widths) // 2]


def headline(grid: charts.FrequencyGrid) -> None:
    """What counting all tokens hides most, as a sentence, with the way to see it."""
    low, looked = starved(grid)
    if not np.nan_to_num(grid.counts["vision"]).any():
        st.markdown("**No vision tokens were routed in this run**, so there is nothing to compare with text.")
        return
    total, looked = int(low.sum()), int(looked.sum())
    if not total:
        st.markdown("In no layer does counting all tokens push a busy text expert into the lower half.")
        return
    found = starving.consequence(grid)
    st.markdown(
        f"**{total} of the {looked} busiest text experts are in the lower half of their layer when all tokens are "
        f"counted together**{starving.reach(total, looked)}. {found.sentence(total)}"
    )
    if warning := starving.few(total, looked):
        st.warning(warning, icon=":material/data_thresholding:")
    with st.container(horizontal=True, vertical_alignment="center"):
        if found.shown is not None:
            row, expert = found.shown
            st.button(
                f"Look at layer {grid.axes.ticks[row]}, expert {expert}",
                key="worst",
                type="tertiary",
                icon=":material/arrow_downward:",
                help=found.why,
                on_click=lambda: look_at(grid.axes.names[row], expert),
            )
        with st.popover(f"Which {total}?", type="tertiary", on_change="rerun", key="starved") as shown:
            if shown.open:
                st.caption("Among the busiest for text, but in the lower half by all tokens counted together.")
                st.dataframe(tables.starved_table(grid).drop(columns="bank"), hide_index=True, width=460, height=300)
        next_step("Give every expert its bits", "budget")


def look_at(bank: str, expert: int) -> None:
    """Choose an expert from the top of the page, and bring its close-up into view."""
    current_run.select(bank=bank, expert=expert)
    scroll_later("close-up")


def maps(grid, sensitivity, view: str, order: str, bits: int, place: tuple[int, int]) -> None:
    """Frequency on the left, sensitivity on the right, row by row."""
    columns = None if order == "index" else charts.specialisation_order(grid.shares["text"], grid.shares["key"])
    left, right = st.columns([1.55, 1], gap="medium")
    with left:
        chart(
            charts.frequency_heatmaps(grid, view, order, place),
            "frequencies",
            follows=True,
            zoom="experts",
            table=lambda: tables.frequency_table(grid),
            on_pick=lambda what: pick(grid.axes, what),
        )
    with right:
        chart(
            charts.sensitivity_heatmaps(sensitivity, bits, place, columns),
            "sensitivity",
            zoom="experts",
            table=lambda: tables.sensitivity_table(sensitivity),
            on_pick=lambda what: pick(grid.axes, what),
        )


def pick(axes: charts.Axes, what: dict) -> None:
    """A click on a cell chooses its expert; arrow keys move to the neighbour."""
    bank, expert = current_run.selected()
    row = axes.names.index(bank)
    if "place" in what and len(what["place"]) == 2 and what.get("facts"):
        row, expert = int(what["place"][0]), int(what["facts"][0])
    step = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}.get(what.get("step"), (0, 0))
    row = min(max(row + step[0], 0), len(axes.names) - 1)
    expert = min(max(expert + step[1], 0), axes.experts[row] - 1)
    current_run.select(bank=axes.names[row], expert=expert)


def close_up(grid, sensitivity, place: tuple[int, int]) -> None:
    """One bank and one expert: shares with and without redundant tokens, rank shift, error by width."""
    st.subheader("One expert close up", anchor="close-up")
    choose_expert(grid.axes, place)
    row, expert = place
    size, name = grid.axes.experts[row], f"Layer {grid.axes.ticks[row]}"
    shares = {kind: values[row, :size] for kind, values in grid.shares.items()}
    counts = {kind: values[row, :size] for kind, values in grid.counts.items()}
    st.markdown(rank_shift(shares, expert))
    exemplars.part(grid.axes.names[row], expert)
    left, right = st.columns([1.55, 1], gap="medium")
    with left:
        chart(
            charts.bank_profile(shares, counts, name, expert),
            "profile",
            table=lambda: tables.profile_table(shares, counts),
        )
        told = "How far apart kinds of token are, by layer"
        chart(
            charts.bias_bars(grid.axes.ticks, divergences(grid), told),
            "bias",
            table=lambda: tables.bias_table(grid.axes, divergences(grid)),
        )
    with right:
        one = {kind: float(values[expert]) for kind, values in shares.items()}
        seen = {kind: float(values[expert]) for kind, values in counts.items()}
        chart(
            charts.expert_frequencies(one, seen, 1 / size),
            "expert",
            table=lambda: tables.profile_table(shares, counts).iloc[[expert]],
        )
        errors = {kind: sensitivity.errors[kind][row, expert] for kind in ("text", "key")}
        typical = {kind: _median(sensitivity.errors[kind][row, :size]) for kind in errors}
        chart(
            charts.error_by_width(sensitivity.bits, errors, typical),
            "errors",
            table=lambda: tables.errors_table(sensitivity.bits, errors, typical),
        )


def _median(errors: np.ndarray) -> np.ndarray:
    """Median over the measured experts of a bank at each width: `[E, B]` → `[B]`."""
    known = errors[np.isfinite(errors).all(axis=1)]
    return np.median(known, axis=0) if len(known) else np.full(errors.shape[1], np.nan)


def choose_expert(axes: charts.Axes, place: tuple[int, int]) -> None:
    """Bank and expert by name and number; the same choice as a click on the maps."""
    left, right, _ = st.columns([2.2, 1, 2])
    st.session_state["experts-bank"], st.session_state["experts-expert"] = axes.names[place[0]], place[1]
    labels = dict(zip(axes.names, axes.labels, strict=True))
    left.selectbox(
        "Bank",
        axes.names,
        format_func=labels.get,
        key="experts-bank",
        on_change=lambda: current_run.select(bank=st.session_state["experts-bank"], expert=0),
    )
    right.number_input(
        "Expert",
        min_value=0,
        max_value=axes.experts[place[0]] - 1,
        step=1,
        key="experts-expert",
        on_change=lambda: current_run.select(expert=int(st.session_state["experts-expert"])),
        help="Or click a cell of the maps; with a map in focus the arrow keys move.",
    )


def rank_shift(shares: dict[str, np.ndarray], expert: int) -> str:
    """Where the expert stands in its bank for text, all tokens, and vision with and without redundancy."""
    words = {"text": "text", "all": "all tokens counted together", "vision": "all vision", "key": "key vision"}
    standing = []
    for kind, word in words.items():
        values = shares[kind]
        if np.isnan(values).all():
            standing.append(f"no {word} tokens came here")
        else:
            standing.append(f"**{int((values > values[expert]).sum()) + 1}** for {word}")
    return f"Rank of expert {expert} among {shares['text'].size}: " + " · ".join(standing) + "."


page()
