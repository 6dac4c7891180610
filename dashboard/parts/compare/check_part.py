"""Which estimate comes true on this model: the check as a job, its cost told first, and what it found."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import streamlit as st

from dashboard import charts
from dashboard.components import chart, show_table
from dashboard.parts.calibrate import trust
from dashboard.parts.compare.measured_evidence import choose_items
from dashboard.shell import jobs_panel
from dashboard.state import current_run, estimating, folders, process_wide
from dashboard.words import names
from dashboard.words.plain import plain
from mode_core.prediction import Check
from mode_core.samples import SampleError, SampleList, read_samples

SAMPLES = 64


def part() -> None:
    """What is known, and the button that finds it out."""
    st.markdown(
        "Random halves of the experts are rounded to few bits, and the model's answers compared with its own before. "
        "An estimate is worth as much as its order of them agrees with what that does. No labelled answers are needed."
    )
    job = process_wide.watched_job()
    if job is not None and job.kind.startswith("check"):
        jobs_panel.panel(job)
    _start(job is not None and job.active)
    found = estimating.check()
    if found is None:
        st.info("The estimates of this run have not been checked.", icon=":material/science:")
        return
    _shown(found)


def _samples() -> SampleList | None:
    """The bundled evaluation's questions, drawn as on the command line; None where they are missing."""
    return read_samples(folders.EVALUATION, limit=SAMPLES) if folders.EVALUATION.is_dir() else None


def _start(busy: bool) -> None:
    """First what it costs, then the check itself."""
    run, source = current_run.run(), current_run.run().model_source
    if not source or not (Path(source) / "config.json").is_file():
        st.caption("The model of this run is not on this machine, so it cannot be checked here.")
        return
    if not current_run.writable():
        st.caption("The bundled run stays as it came; a check of your own runs can be started here.")
        return
    told = process_wide.finished(f"check-cost:{run.path}")
    cost, go = st.columns([1, 2], vertical_alignment="center")
    try:
        samples = _samples()
    except SampleError as refused:
        st.error(plain(refused), icon=":material/error:")
        return
    if samples is None:
        st.caption("The bundled evaluation samples are missing; check from the command line with samples of your own.")
        return
    timed = cost.button("What would a check cost?", key="check:cost", disabled=busy)
    agreed = told is not None and go.button(f"Check now: {told}", key="check:go", type="primary", disabled=busy)
    if timed or agreed:
        from dashboard.jobs import work  # with torch, which looking at results does not need

        title, kind, do = (
            ("Checking the estimates", f"check:{run.path}", work.check_estimates)
            if agreed
            else ("Timing one pass of a check", f"check-cost:{run.path}", work.check_cost_of)
        )
        if process_wide.start(title, kind, do, process_wide.shelf(), run, samples, trusted=trust.may_run(source)):
            st.rerun()


def _shown(found: Check) -> None:
    """The correlations, one method's scatter, and the allocations that were tried."""
    st.success(f"{names.method(found.choice.method)}: {plain(found.choice.why)}", icon=":material/check_circle:")
    left, right = st.columns(2)
    kind = choose_items(left, set(found.measured))
    ranked = [one.method for one in found.rankings if one.modality == kind]
    method = right.selectbox("Method looked at", ranked, format_func=names.method, key="check:method")
    if method is None:
        st.caption("On these items no estimate could be ranked.")
        return
    rankings = pd.DataFrame([vars(one) for one in found.rankings if one.modality == kind])
    one, other = st.columns(2, gap="medium")
    with one:
        chart(charts.check_scatter(found.predicted[method], found.measured[kind], names.short_method(method),
                                   found.of(method, kind)), "check-scatter",
              table=lambda: pd.DataFrame({"predicted": found.predicted[method], "measured_kl": found.measured[kind]}),
              )  # fmt: skip
    with other:
        low = found.info.get("low_bits", 0)
        dots = rankings.assign(bank="all", bits=low, calibration=-1)
        chart(charts.ranking_dots(dots, low, kind, "all", names.short_method), "check-rankings",
              table=lambda: rankings)  # fmt: skip
    st.markdown("**Allocations that were tried**, on the same samples")
    rows = [
        (
            names.short_method(one.method),
            one.shrinkage,
            one.average_bits,
            one.kl.get(kind),
            one.ratio,
            one.low,
            one.high,
        )
        for one in found.trials
    ]
    columns = ["method", "λ", "average bits", "KL, nats", "times uniform's (all items)", "from", "to"]
    show_table(pd.DataFrame(rows, columns=columns))
