"""Which estimate comes true on this model: the check as a job, its cost told first, and what it found."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboard import charts
from dashboard.components import chart, show_table
from dashboard.jobs import work
from dashboard.parts.calibrate import sample_picker
from dashboard.parts.compare import comparing, comparing_job
from dashboard.parts.compare.measured_evidence import choose_items
from dashboard.state import current_run, estimating
from dashboard.words import names
from dashboard.words.plain import plain
from mode_core.prediction import Check

SAMPLES = 64


def part() -> None:
    """What is known, and the button that finds it out."""
    st.markdown(
        "Random halves of the experts are rounded to few bits, and the model's answers compared with its own before. "
        "An estimate is worth as much as its order of them agrees with what that does. No labelled answers are needed."
    )
    _start()
    found = estimating.check()
    if found is None:
        st.info("The estimates of this run have not been checked. At the command line, where the model is:",
                icon=":material/science:")  # fmt: skip
        st.code(comparing.command(current_run.run_entry(), "check", "--run"), language="bash")
        return
    _shown(found)


def _start() -> None:
    """First what it costs, then the check itself."""
    if reason := comparing_job.why_not():
        st.caption(plain(reason))
        return
    samples = sample_picker.items("check", SAMPLES)
    if not samples:
        st.caption("Next: choose samples.")
        return
    seal = sample_picker.digest(samples)[:8]
    comparing_job.two_steps("check", "check", seal, (work.check_cost_of, samples), (work.check_estimates, samples))


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
        chart(charts.check_scatter(found.predicted[method], found.measured[kind], names.method(method),
                                   found.of(method, kind)), "check-scatter",
              table=lambda: pd.DataFrame({"predicted": found.predicted[method], "measured_kl": found.measured[kind]}),
              )  # fmt: skip
    with other:
        low = found.info.get("low_bits", 0)
        dots = rankings.assign(bank="all", bits=low, calibration=-1)
        chart(charts.ranking_dots(dots, low, kind, "all", names.method), "check-rankings",
              table=lambda: rankings)  # fmt: skip
    st.markdown("**Allocations that were tried**, on the same samples")
    rows = [
        (
            names.method(one.method),
            one.shrinkage,
            one.average_bits,
            one.kl.get(kind),
            one.ratio,
            one.low,
            one.high,
        )
        for one in found.trials
    ]
    columns = ["method", "drawn to the mean by", "average bits", "KL, nats", "times uniform's (all items)",
               "95 % from", "95 % to"]  # fmt: skip
    show_table(pd.DataFrame(rows, columns=columns))
