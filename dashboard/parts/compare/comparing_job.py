"""What is measured from the Compare page: on which items, at what cost, told first; as jobs that go on."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboard.jobs import work
from dashboard.parts.calibrate import sample_picker, trust
from dashboard.shell import jobs_panel
from dashboard.state import comparisons, current_run, model_sources, process_wide, solving
from dashboard.words import names
from dashboard.words.plain import plain
from mode_core.comparison import ComparisonSettings
from mode_core.errors import ModeError
from mode_core.models.errors import ModelError
from mode_core.request import AllocationRequest

BUDGETS = (3.5, 3.0, 2.75, 2.5, 2.25, 2.0)
FIRST = ("mode", "mode_soft_fisher", "frequency", "uniform")  # methods that are set at first
MOST = 512  # items
ASKED = ("key_ratio", "signal", "vision_weight", "min_support", "widths")  # of what every method is asked with


def why_not() -> str:
    """Why nothing can be measured into the open run here; empty where it can."""
    source = current_run.run().model_source
    if model_sources.folder_of(source) is None:
        return model_sources.not_here(source, "nothing can be measured with it here")
    try:
        model_sources.allowed(source)
    except ModelError as refused:
        return str(refused)
    return "" if current_run.writable() else "The bundled run stays as it came; runs of your own can be measured here."


def two_steps(kind: str, what: str, seal: str, cost: tuple, do: tuple) -> None:
    """First what it costs, then the work itself: buttons for two jobs, each a (function, its arguments).

    `seal` says of which settings and items the cost was told.
    """
    job, run = process_wide.watched_job(), current_run.run()
    if job is not None and job.kind.startswith(kind):
        jobs_panel.panel(job)
    busy = job is not None and job.active
    told = process_wide.finished(f"{kind}-cost:{run.path}:{seal}")
    left, right = st.columns([1, 2], vertical_alignment="center")
    timed = left.button(f"What would a {what} cost?", key=f"{kind}:cost", disabled=busy)
    label = f"{what.capitalize()} now: {told}"
    agreed = told is not None and right.button(label, key=f"{kind}:go", type="primary", disabled=busy)
    if timed or agreed:
        (work, *given), ending = (do, "") if agreed else (cost, "-cost")
        title = f"{what.capitalize()} of methods" if agreed else f"Timing one pass of a {what}"
        if process_wide.start(title, f"{kind}{ending}:{run.path}:{seal}", work, process_wide.shelf(), run, *given,
                              trusted=trust.may_run(run.model_source)):  # fmt: skip
            st.rerun()


def part() -> None:
    """Methods, budgets and items; then the two buttons. Opened on request."""
    opened = st.expander("Compare methods on this machine", key="compare:open", on_change="rerun")
    if not opened.open:
        return
    with opened:
        if reason := why_not():
            st.caption(plain(reason))
            return
        samples, settings = sample_picker.items("compare", MOST), _settings()
        if not samples or settings is None:
            st.caption("Next: choose items with answers, methods and budgets.")
            return
        seal = f"{sample_picker.digest(samples)[:8]}-{settings.digest[:8]}"
        out = _folder(f"{len(samples)}_items_{seal}")
        two_steps("compare", "comparison", seal, (work.compare_cost_of, samples, settings),
                  (work.compare_methods, samples, settings, out))  # fmt: skip
        st.caption("What was measured is kept: one that was stopped goes on where the same is asked again.")


def _settings() -> ComparisonSettings | None:
    """Which methods at which budgets, in the widths of the Budget page; None with the reason shown, or too little."""
    possible, asked = comparisons.available_methods(), solving.request()
    inside = [bits for bits in BUDGETS if min(asked.widths) <= bits <= max(asked.widths)]
    methods = st.multiselect("Methods to measure", possible, [name for name in FIRST if name in possible],
                             format_func=names.method, key="compare:methods", persist_state="session")  # fmt: skip
    budgets = st.pills("Budgets, bits on average", inside, default=inside, selection_mode="multi", key="compare:bits",
                       persist_state="session", format_func=lambda bits: f"{bits:g}")  # fmt: skip
    alone = st.toggle("Every expert alone too, at the lowest width", key="compare:alone", persist_state="session",
                      help="The truth that rankings are set against: one pass more for each expert.")  # fmt: skip
    if not methods or not budgets:
        return None
    request = AllocationRequest(**{name: getattr(asked, name) for name in ASKED})
    try:
        return ComparisonSettings(
            methods=tuple(methods), average_bits=tuple(budgets), truth_bits=(min(asked.widths),) if alone else (),
            shrinkage=tuple(sorted({0.0, asked.shrinkage})), request=request,
            quantizer=solving.quantizer().of_experts,
        )  # fmt: skip
    except ModeError as refused:
        st.error(plain(refused), icon=":material/error:")
        return None


def _folder(name: str) -> Path:
    """Where it is kept: the run's first evidence where there is none yet, else beside it under a name of its own."""
    place = current_run.run().path / "evidence"
    return place / name if (place / "evidence.json").is_file() else place
