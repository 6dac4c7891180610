"""Budget: how many bits every expert gets, solved again while the budget is dragged."""

from __future__ import annotations

import numpy as np
import streamlit as st

from dashboard import charts
from dashboard.charts.bits import MOST_DOTS
from dashboard.charts.measures import frontier_of
from dashboard.components import Readout, before_change, changes, chart, live_slider, readout
from dashboard.parts.budget import halves, planner
from dashboard.parts.budget.budget_words import headline, insurance, memory_unit, metrics, missing_methods
from dashboard.state import address, current_run, estimating, solving
from dashboard.words import names, tables
from dashboard.words.glossary import explain
from dashboard.words.plain import plain
from mode_core.allocation import UNITS, Allocation, AllocationError, scope_warning
from mode_core.importance import METHODS, ImportanceError

SCOPES = {"bank": "Each layer", "model": "Whole model"}
HELP_WEIGHT = "α: how much damage to key vision tokens counts beside damage to text tokens. The paper takes 1."
HELP_SCOPE = "The paper gives each layer the same average; one budget for the model moves bits between layers."


def page() -> None:
    """Everything below the title follows the controls without a rerun of the whole page."""
    current_run.statistics()  # says what to do where there is no run yet
    st.title("Budget")
    plan()


@st.fragment
def plan() -> None:
    """The budget, what it buys, and which expert gets what."""
    keep_in_range()
    sentence, budget, figures = st.container(), st.container(), st.container()
    with st.container():
        draw_settings()
        planner.more(charts.Axes.of(current_run.statistics()))
    with budget:
        left, right = st.columns([3, 1], vertical_alignment="center")
        right.segmented_control(
            "Budget in",
            ("bits", "MB"),
            format_func={"bits": "Average bits", "MB": memory_unit(solving.size_range()[1]).words}.get,
            required=True,
            width="stretch",
            **address.bind("budget_unit"),
        )
        slot = left.container()
    try:
        allocation = solving.allocation()
        rival = solving.uniform_like(allocation)
    except (AllocationError, ImportanceError) as impossible:
        sentence.markdown("There is no allocation for these settings.")
        st.error(plain(impossible), icon=":material/error:")
    else:
        with sentence:
            readout(headline(allocation, rival), "headline")
            starting_point()
        with figures:
            readout(metrics(allocation, rival), "figures")
        outcome(allocation, rival)
    with slot:
        draw_budget()


def starting_point() -> None:
    """Which estimate is set, why it is recommended, and the way to the other one."""
    now, advised = address.choices().request, estimating.recommended()
    mine = advised.settings == {name: getattr(now, name) for name in advised.settings}
    paper = all(getattr(now, name) == value for name, value in estimating.PAPER.items())
    told, asked = st.columns([3, 1], vertical_alignment="center")
    share = f"{SCOPES[advised.scope].lower()}, drawn to the mean by {advised.shrinkage:g}"
    told.caption(f"Recommended{' and set' * mine}: {names.method(advised.method)} ({share}). {plain(advised.why)}")
    with asked:
        if not paper:
            st.button("MODE as the paper has it", key="as-in-paper", width="stretch",
                      on_click=lambda: address.choose(**estimating.PAPER))  # fmt: skip
        if not mine:
            st.button("Recommended estimate", key="as-advised", width="stretch",
                      on_click=lambda: address.choose(**advised.settings))  # fmt: skip


def follow() -> str:
    """What every step of a dragged slider changes: the sentence, the figures, the bits of every expert."""
    try:
        allocation = solving.allocation()
        rival = solving.uniform_like(allocation)
    except (AllocationError, ImportanceError) as impossible:
        nothing = charts.no_bits(charts.Axes.of(current_run.statistics()), "No allocation within this budget.")
        told = Readout("There is no allocation for these settings.", str(impossible))
        return changes({"bits": nothing}, {"headline": told, "figures": Readout()})
    axes, bits, _ = laid_out(allocation, rival)
    told = {"headline": headline(allocation, rival), "figures": metrics(allocation, rival)}
    return changes({"bits": bits_figure(axes, bits, allocation)}, told)


def keep_in_range() -> None:
    """Other widths, or another run, may leave the budget outside of what can be met: move it to the nearest end."""
    now, widths = address.choices(), solving.widths()
    bits = min(max(now.request.budget, min(widths)), max(widths))
    low, high = (size / 1e6 for size in solving.size_range())
    size = now.megabytes if now.megabytes is None else min(max(now.megabytes, low), high)
    if (bits, size) != (now.request.budget, now.megabytes):
        address.choose(average_bits=float(bits), megabytes=size)


def draw_budget() -> None:
    """The slider, in the unit chosen."""
    now, widths = address.choices(), solving.widths()
    if len(widths) == 1:
        st.info(f"With {widths[0]} bits alone there is nothing to share out; choose another width beside it.")
        return
    if now.budget_unit == "MB":
        unit = memory_unit(solving.size_range()[1])
        low, high = (size / unit.size for size in solving.size_range())
        decimals = max(0, 2 - int(np.floor(np.log10(max(high - low, 1e-6)))))
        live_slider(
            "Budget for all routed experts",
            low=float(np.ceil(low * 10**decimals) / 10**decimals),
            high=float(np.ceil(high * 10**decimals) / 10**decimals),
            step=10.0**-decimals,
            value=1e6 * solving.megabytes() / unit.size,
            decimals=decimals,
            unit=f" {unit.name}",
            key="megabytes",
            on_change=lambda amount: address.choose(megabytes=amount * unit.size / 1e6),
            follow=follow,
        )
        return
    live_slider(
        "Budget for all routed experts",
        low=float(min(widths)),
        high=float(max(widths)),
        step=0.01,
        value=now.request.budget,
        decimals=2,
        unit=" bits on average",
        key="average-bits",
        on_change=lambda bits: address.choose(average_bits=round(bits, 2), megabytes=None),
        follow=follow,
        disabled=len(widths) == 1,
    )


def draw_settings() -> None:
    """Method, scope, unit, widths and vision weight in one row."""
    method, scope, unit, widths, weight = st.columns([1.6, 1.3, 0.9, 1.2, 1.3], vertical_alignment="top")
    now = address.choices().request
    known = [name for name in METHODS if METHODS[name].available(current_run.statistics())]
    known += [now.method] * (now.method not in known)
    chosen = method.selectbox(
        "Importance by", known, format_func=names.method, help=missing_methods(), **address.bind("method")
    )
    unit.selectbox(
        "One width for", UNITS, format_func=planner.UNIT_NAMES.get, help=planner.UNIT_HELP,
        **address.bind("unit"),
    )  # fmt: skip
    scope.segmented_control(
        "Budget for", list(SCOPES), format_func=SCOPES.get, required=True, help=HELP_SCOPE, **address.bind("scope")
    )
    widths.pills(
        "Bit-widths",
        list(current_run.statistics().bits),
        selection_mode="multi",
        **address.bind(
            "widths", shown=lambda _: list(solving.widths()), meant=lambda bits: tuple(sorted(bits)) or solving.widths()
        ),
    )
    with weight:
        live_slider(
            "Weight of vision (α)",
            low=0.0,
            high=4.0,
            step=0.1,
            value=now.vision_weight,
            decimals=1,
            key="vision-weight",
            help=HELP_WEIGHT,
            on_change=lambda alpha: address.choose(vision_weight=round(alpha, 1)),
            follow=follow,
        )
    st.caption(f"{METHODS[chosen].description} Key ratio {100 * now.key_ratio:.0f} %, set under Experts.")
    draw_trust(now.method, now.shrinkage)


def draw_trust(method: str, shrinkage: float) -> None:
    """Insurance as a question, and what was measured of either answer."""
    left, right = st.columns([1, 1.4], gap="medium", vertical_alignment="center")
    with left:
        live_slider(
            "How far may I trust that these samples stand for your use?",
            low=0,
            high=100,
            step=5,
            value=100 * (1 - shrinkage),
            unit=" %",
            key="shrinkage",
            help=explain("shrinkage"),
            on_change=lambda percent: address.choose(shrinkage=round(1 - percent / 100, 2)),
            follow=follow,
        )
    right.caption(insurance(method, solving.bits_asked()))


def laid_out(allocation: Allocation, rival: Allocation) -> tuple[charts.Axes, dict, dict]:
    """Axes, bits and the rival's bits as they are drawn: halves of experts beside each other where these are apart."""
    axes = charts.Axes.of(current_run.statistics())
    if not halves.is_split(allocation.bits):
        return axes, allocation.bits, rival.bits
    return halves.split_axes(axes), halves.split_bits(allocation.bits), halves.split_bits(rival.bits)


def earlier(axes: charts.Axes, bits: dict) -> dict | None:
    """The bits before the present change of the settings, where they are of the same experts."""
    before = before_change("budget:before", address.choices(), bits)
    if before is None or {name: len(row) for name, row in before.items()} != dict(
        zip(axes.names, axes.experts, strict=True)
    ):
        return None  # another run, or another unit, was open then
    return before


def bits_figure(axes: charts.Axes, bits: dict, allocation: Allocation, unsettled: dict | None = None, costs=None):
    """The map of bits, with dots where they moved, hatched where they hang on the samples."""
    return charts.bit_map(axes, bits, allocation.widths, earlier(axes, bits), unsettled=unsettled, costs=costs)


def unsettled_experts() -> dict | None:
    """Share of the folds without which an expert gets other bits, laid out as the map; not while a slider is held."""
    found = estimating.stability()
    if found is None:
        return None
    return halves.split_bits(found.changed) if halves.is_split(found.changed) else found.changed


def outcome(allocation: Allocation, rival: Allocation) -> None:
    """Figures in a row, the bits of every expert, the frontier, and what moved."""
    axes, bits, rival_bits = laid_out(allocation, rival)
    costs = halves.split_costs(solving.split_costs()) if halves.is_split(allocation.bits) else solving.costs()
    if allocation.scope == "model" and (warning := scope_warning(costs)):
        st.warning(warning, icon=":material/warning:")
    left, right = st.columns([1.9, 1], gap="medium")
    with left:
        chart(
            bits_figure(axes, bits, allocation, unsettled_experts(), costs),
            "bits",
            follows=True,
            table=lambda: tables.allocation_table(axes, bits, costs),
        )
    with right:
        chart(
            charts.width_counts(axes, bits, allocation.widths),
            "counts",
            table=lambda: tables.counts_table(axes, bits, allocation.widths),
        )
        before = earlier(axes, bits)
        changed(None if before is None else tables.moves_table(axes, before, bits))
    left, right = st.columns(2, gap="medium")
    with left:
        curve(allocation)
    with right:
        by_layer(axes, costs, bits, rival_bits, f"uniform, {estimating.mixed(rival)}")


def changed(moved) -> None:
    """Experts whose bits moved since the last setting."""
    if moved is None:
        st.caption("Change a setting to see which experts' bits move; moved ones get a dot on the map.")
    elif moved.empty:
        st.caption("No expert's bits moved since the last setting.")
    else:
        dots = " (dots on the map)" if len(moved) <= MOST_DOTS else ""
        more = int((moved["bits_after"] > moved["bits_before"]).sum())
        with st.popover(f"{len(moved):,} experts moved", type="tertiary", on_change="rerun", key="moved") as shown:
            if shown.open:
                st.dataframe(moved, hide_index=True, height=260)
        st.caption(f"Since the last setting {more:,} got more bits and {len(moved) - more:,} fewer{dots}.")


def curve(allocation: Allocation) -> None:
    """Damage at every budget, in the unit of the slider."""
    chart(
        frontier_figure(allocation),
        "frontier",
        table=lambda: tables.frontier_table(frontier_of(solving.solver())),
    )


def frontier_figure(allocation: Allocation):
    """The curve, the uniform widths, this budget, and what other methods reach by these costs."""
    line = frontier_of(solving.solver())
    memory = memory_unit(solving.size_range()[1])
    in_memory = address.choices().budget_unit == "MB"
    if in_memory:
        across, ends, here = (count / memory.size for count in (line.bytes, line.uniform_bytes, allocation.bytes))
        unit = memory.name
    else:
        across, ends, unit, here = line.average_bits, line.uniform_bits, "bits on average", allocation.average_bits
    uniform = list(zip(line.uniform_bits.tolist(), ends.tolist(), line.uniform_objective.tolist(), strict=True))
    others = [
        (names.method(name), rival.bytes / memory.size if in_memory else rival.average_bits, damage)
        for name, rival, damage in solving.rivals()
    ]
    return charts.frontier_chart(across, line.objective, uniform, (here, allocation.objective), unit, others)


def by_layer(axes: charts.Axes, costs, bits, rival_bits, name: str) -> None:
    """Where the predicted damage sits, against the uniform rival."""

    chosen, uniform = (tables.damage_by_bank(axes, costs, each) for each in (bits, rival_bits))
    chart(
        charts.damage_by_layer(axes.ticks, chosen, uniform, name),
        "layers",
        table=lambda: tables.bias_table(axes, {"predicted_damage": chosen, f"predicted_damage, {name}": uniform}),
    )


page()
