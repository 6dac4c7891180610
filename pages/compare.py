"""Compare: methods measured at the same budget, their rankings against the truth, and two calibrations of one model."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import streamlit as st

from dashboard import charts
from dashboard.charts.evidence import METRICS, MODALITIES, means
from dashboard.charts.two_runs import crossed
from dashboard.components import chart
from dashboard.parts.compare import check_part, comparing
from dashboard.state import address, comparisons, current_run, folders
from dashboard.words import names, paper, tables
from dashboard.words.glossary import explain
from dashboard.words.plain import plain
from mode_core.allocation import AllocationError
from mode_core.comparison import Evidence, EvidenceError
from mode_core.importance import ImportanceError

SECTIONS = {
    "methods": "Methods by budget",
    "check": "Check of the estimates",
    "rankings": "Rankings against the truth",
    "runs": "Two calibrations",
    "paper": "The paper's numbers",
}
SHORT = {"accuracy": "Accuracy", "kl": "KL divergence", "agreement": "Agreement"}
AGAINST = ("frequency", "uniform", "mode")
SHOWN_FIRST = ("mode", "mode_soft_fisher", "mode_soft_fisher λ 0.5", "frequency", "mc", "uniform")
SHORT_NAME = comparing.named(names.short_method)
ITEMS = {"items_text": "text-only items", "items_vision": "items with a picture"}
HALVES = "Halves of this run's samples"


def page() -> None:
    """One section at a time, each with its own link."""
    current_run.statistics()  # says what to do where there is no run yet
    st.title("Compare")
    section = st.segmented_control(
        "Section",
        list(SECTIONS),
        format_func=SECTIONS.get,
        required=True,
        label_visibility="collapsed",
        **address.bind_place("section", list(SECTIONS), "methods"),
    )
    {"methods": methods, "check": check_part.part, "rankings": rankings, "runs": two_runs, "paper": reported}[section]()


def evidence(name: str = "") -> Evidence | None:
    """What was measured in the open run; where nothing was, says how to measure it."""
    try:
        found = comparisons.evidence(name)
    except EvidenceError as damaged:
        st.error(f"The evidence of this run cannot be read. {plain(damaged)}", icon=":material/error:")
        return None
    if found is None:
        st.info(
            "Nothing was compared in this run yet. Every method is measured at every budget on the evaluation "
            "samples, with several calibration draws; that takes minutes for the bundled model and runs from the "
            "command line:",
            icon=":material/science:",
        )
        st.code(comparing.command(current_run.run_entry()), language="bash")
    return found


def told(found: Evidence) -> None:
    """How the evidence came about, in a line."""
    info, settings = found.info, found.info.get("settings", {})
    parts = [f"{plain(info[key])} {words}" for key, words in ITEMS.items() if info.get(key)]
    draws = int(info.get("draws", found.scores["calibration"].max() + 1))
    kind = f" ({plain(info['calibration_draws'])})" if "calibration_draws" in info else ""
    parts.append(f"{draws} calibration draws{kind}" if draws > 1 else "one calibration")
    if widths := settings.get("request", settings).get("widths"):  # earlier versions wrote its fields one by one
        parts.append(f"widths {plain(' '.join(map(str, widths)))}")
    st.caption(f"Measured, not estimated: {', '.join(parts)}. Intervals are 95 %, over items and calibration draws.")


def methods() -> None:
    """A metric against the budget, and the difference from one rival."""
    known = comparisons.evidence_names()
    name = known[0] if known else ""
    if len(known) > 1:
        bound = address.bind_place("evidence", known, known[0])
        words = {each: each.replace("_", " ") or "all methods" for each in known}
        name = st.selectbox("Evidence", known, format_func=words.get, **bound)
    found = evidence(name)
    if found is None:
        return
    told(found)
    found = replace(found, scores=comparing.by_shrinkage(found.scores), paired=comparing.by_shrinkage(found.paired))
    metric, modality = metric_and_modality(found)
    rows = means(found.scores, metric, modality)
    scopes = {method: comparing.natural_scope(rows, method) for method in dict.fromkeys(rows["method"])}
    shown = st.multiselect(
        "Methods",
        list(scopes),
        default=[method for method in SHOWN_FIRST if method in scopes] or list(scopes)[:5],
        format_func=comparing.named(names.method),
        key=f"compare-methods:{name}",
        persist_state="session",
    )
    left, right = st.columns([1.15, 1], gap="medium")
    with left:
        pairs = [(method, scopes[method]) for method in shown]
        figure = charts.scores_by_budget(found.scores, metric, modality, pairs, SHORT_NAME)
        chart(figure, "methods", table=lambda: rows[rows["method"].isin(shown)])
    with right:
        against_one(found, metric, modality)
    st.caption(explain({"kl": "KL divergence", "agreement": "agreement"}[metric]) if metric != "accuracy" else
               "Accuracy: share of items answered exactly.")  # fmt: skip


def metric_and_modality(found: Evidence) -> tuple[str, str]:
    """What is looked at, on which items."""
    left, right = st.columns(2)
    known = [name for name in METRICS if name in set(found.scores["metric"])]
    metric = left.segmented_control(
        "Metric", known, format_func=SHORT.get, required=True, **address.bind_place("metric", known, known[0])
    )
    held = [name for name in MODALITIES if name in set(found.scores["modality"])]
    bound = address.bind_place("modality", held, held[0])
    modality = right.segmented_control("Items", held, format_func=MODALITIES.get, required=True, **bound)
    return metric, modality


def against_one(found: Evidence, metric: str, modality: str) -> None:
    """Every method against one rival at one budget."""
    rivals = [name for name in AGAINST if name in set(found.paired["against"])]
    budgets = sorted(found.paired["average_bits"].unique().tolist())
    if not rivals or not budgets:
        st.caption("No differences between methods were measured in this run.")
        return
    left, right = st.columns(2)
    rival = left.selectbox("Against", rivals, format_func=names.short_method, key="compare-against",
                           persist_state="session")  # fmt: skip
    middle = min(budgets, key=lambda bits: abs(bits - 2.5))
    budget = right.selectbox("At a budget of", budgets, index=budgets.index(middle), key="compare-budget",
                             format_func=lambda bits: f"{bits:g} bits", persist_state="session")  # fmt: skip
    figure = charts.paired_forest(found.paired, rival, budget, metric, modality, SHORT_NAME)
    chosen = (found.paired["against"] == rival) & (found.paired["metric"] == metric)
    chart(figure, "forest", table=lambda: found.paired[chosen & (found.paired["modality"] == modality)])


def rankings() -> None:
    """Does a method know which experts matter? Against what quantizing each of them alone did."""
    found = evidence()
    if found is None:
        return
    if found.truth.empty:
        st.info("The truth was not measured in this run: 'compare' quantizes every expert alone where it is asked to.")
        return
    st.markdown(
        "The truth of an expert is what quantizing **it alone** does to the answers. A method that knows which "
        "experts matter puts them in the same order."
    )
    left, middle, right = st.columns([0.8, 1.5, 1.1])
    widths = sorted(found.truth["bits"].unique().tolist(), reverse=True)
    bits = left.segmented_control("Each expert alone at", widths, default=widths[0], required=True,
                                  format_func=lambda width: f"{width} bits" if width > 1 else "1 bit",
                                  key="compare-bits", persist_state="session")  # fmt: skip
    held = [name for name in MODALITIES if name in set(found.truth["modality"])]
    bound = address.bind_place("modality", held, held[0])
    modality = middle.segmented_control("Items", held, format_func=MODALITIES.get, required=True, **bound)
    possible = comparisons.available_methods()
    method = right.selectbox("Method looked at", possible, format_func=names.method, **address.bind("method"))
    one, other = st.columns([1, 1], gap="medium")
    with one:
        figure = charts.ranking_dots(found.ranking, bits, modality, "all", names.short_method)
        chosen = (found.ranking["bits"] == bits) & (found.ranking["modality"] == modality)
        chart(figure, "rankings", table=lambda: found.ranking[chosen])
    with other:
        frame = comparing.against_truth(
            current_run.statistics(), found.truth, bits, modality, comparisons.costs_at(bits)
        )
        title = f"{names.short_method(method)}: its word against the truth, expert by expert"
        chart(charts.truth_scatter(frame, title), "truth", table=lambda: frame)
    told(found)


def two_runs() -> None:
    """The same settings on two calibrations: do the bits differ?"""
    statistics = current_run.statistics()
    others = [entry for entry in folders.runs() if entry.path != current_run.run_entry().path]
    known = ["", *(entry.name for entry in others)]
    labels = {"": HALVES} | {entry.name: f"The run {entry.label!r}" for entry in others}
    other = st.selectbox("Against", known, format_func=labels.get, **address.bind_place("other", known, ""),
                         help=explain("fold"))  # fmt: skip
    try:
        first, second, labelled = comparing.pair(
            current_run.run_entry().label, statistics, other, current_run.run_named
        )
        one, two = (comparisons.allocation_of(each) for each in (first, second))
    except (ImportanceError, AllocationError, comparing.NotComparable) as refused:
        st.warning(plain(refused), icon=":material/info:")
        return
    axes, widths = charts.Axes.of(statistics), one.widths
    counts = crossed(comparing.flat(one), comparing.flat(two), widths)
    same = counts.trace() / counts.sum()
    st.markdown(
        f"**{100 * (1 - same):.0f} % of the experts get other bits**, with the settings of the Budget page: "
        f"{plain(labelled[0])} ({len(first.samples)} samples) against {plain(labelled[1])} "
        f"({len(second.samples)} samples)."
    )
    left, right = st.columns(2, gap="medium")
    with left:
        rows = pd.DataFrame(counts, columns=[f"{w} bits" for w in widths]).assign(bits=widths)
        chart(charts.bits_crossed(counts, widths, labelled), "crossed", table=lambda: rows)
    with right:
        moved = tables.moves_table(axes, one.bits, two.bits)
        chart(charts.changed_by_layer(axes, one.bits, two.bits), "changed", table=lambda: moved)
    now = address.choices().request
    agreement = comparing.order_agreement(first, second, now.key_ratio, now.signal)
    figure = charts.order_agreement(axes.ticks, agreement)
    chart(figure, "orders", table=lambda: tables.bias_table(axes, agreement))
    if not other:
        st.caption("Halves have half the samples, so they differ more than two calibrations of the full size would.")


def reported() -> None:
    """What the paper says, labelled as the paper's."""
    st.caption(f"{paper.ABOUT} Source: [arXiv 2606.17118]({paper.SOURCE}).")
    figure = charts.reported_bars(paper.AVERAGES, paper.ORIGINAL, "the paper")
    chart(figure, "reported", table=paper.frame)


page()
