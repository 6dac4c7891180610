"""What was measured of three models, whether it is out of date, and what the command line kept beside it."""

from __future__ import annotations

import time

import streamlit as st

from dashboard.charts import accuracy_by_task
from dashboard.components import chart, show_table
from dashboard.parts.quantize import breaking, verdict
from dashboard.state import measured, process_wide, solving
from dashboard.state.choices import describe
from dashboard.state.measured import MODELS, ORIGINAL, Measurement
from dashboard.words.plain import plain

SHARE = st.column_config.NumberColumn(format="percent")
NATS = st.column_config.NumberColumn(format="%.4f")
DIVERGENCE = dict.fromkeys(measured.KL_COLUMNS, NATS) | dict.fromkeys(measured.SAME_COLUMNS, SHARE)
SIZE = {name: st.column_config.NumberColumn(format="localized") for name in ("predicted bytes", "measured bytes")}
SIZE["of original"] = SHARE
HISTORY = {"made": st.column_config.DatetimeColumn(format="D MMM, HH:mm")}
HISTORY |= {"KL here": NATS, "KL uniform": NATS, "answers here": SHARE, "answers uniform": SHARE}


TONES = {
    "better": (st.success, ":material/check_circle:"),
    "worse": (st.warning, ":material/trending_down:"),
    "level": (st.info, ":material/balance:"),
}


def verdict_part(top: st.delta_generator.DeltaGenerator) -> None:
    """At the top of the page: which of the two that compete is better, of what is measured."""
    if (found := shown()) is None:
        return
    told, tone = verdict.sentence(found)
    stale = found.fingerprint != solving.fingerprint()
    box, icon = TONES["level" if stale else tone]
    with top:
        box(f"{'Of other settings, measured before. ' if stale else ''}{told}", icon=icon)


def history_part() -> None:
    """Every measurement that this run keeps, and which of them is shown."""
    known = process_wide.measurements()
    if len(known) < 2:
        return
    with st.expander(f"History of {len(known)} measurements", key="quantize:history", on_change="rerun") as opened:
        if not opened.open:
            return
        show_table(verdict.history(known, solving.fingerprint()), column_config=HISTORY)
        labels = {found.fingerprint: f"{_when(found)}: {describe(found.settings)}" for found in known}
        usual = "that of the present settings, else the newest"
        st.selectbox(
            "Shown below and above", ["", *labels], format_func=lambda one: labels.get(one, usual),
            key="quantize:shown", persist_state="session",
        )  # fmt: skip


def _when(found: Measurement) -> str:
    return time.strftime("%d %b, %H:%M", time.localtime(found.made))


def part(ready: bool) -> None:
    """What was measured, marked stale where the settings have changed since; `ready`: can it be measured now?"""
    for name, why in process_wide.damaged_measurements().items():
        st.warning(f"{plain(name)}: damaged: {plain(why)}", icon=":material/broken_image:")
    found = shown()
    if found is None:
        what_next = " Press “Quantize and measure”." * ready
        st.info(f"Nothing has been measured with this run yet.{what_next}", icon=":material/info:")
        return
    stale = found.fingerprint != solving.fingerprint()
    about = f"Measured on {_when(found)} with: {plain(describe(found.settings))}."
    if stale:
        st.warning(f"Out of date: the settings have changed since. {about}", icon=":material/history:")
    else:
        st.caption(about)
    cells = st.columns(3)
    for cell, model in zip(cells, MODELS, strict=True):
        scores = found.scores[model]
        compared = model != ORIGINAL and scores.accuracy is not None
        change, colour = measured.loss_sentence(found, model) if compared else (None, "off")
        value = "no answers" if scores.accuracy is None else f"{100 * scores.accuracy:.1f} %"
        label = f"Accuracy, {found.label(model)}"
        cell.metric(label, value, change, delta_color=colour, delta_arrow="off")
    for note in found.notes:
        st.caption(f":material/info: {plain(note)}")
    items = len(found.scores[ORIGINAL].answers)
    st.caption(f"Exact answers to {items} items; differences in points on the same items, with a 95 % interval.")
    frame = measured.accuracy_frame(found)
    if frame.empty:
        st.caption("These items have no answers, so there is no accuracy; the distance to the original is below.")
    else:
        figure = accuracy_by_task(frame).update_xaxes(automargin=True)  # tasks may have long names
        chart(figure, key="quantize-accuracy", table=lambda: frame)
    left, right = st.columns([1.25, 1])
    with left:
        st.markdown("**Distance to the original**, KL in nats (less is better)")
        show_table(measured.divergence_frame(found), column_config=DIVERGENCE)
    with right:
        st.markdown("**Size of all experts**, predicted beside measured")
        show_table(measured.size_frame(found), column_config=SIZE)
    breaking.part(found)


def shown() -> Measurement | None:
    """The measurement to show: the one chosen in the history, else of the present settings, else the newest."""
    known = process_wide.measurements()
    wanted = (st.session_state.get("quantize:shown"), solving.fingerprint())
    chosen = (found for seal in wanted for found in known if found.fingerprint == seal)
    return next(chosen, known[0] if known else None)


def kept_part() -> None:
    """What was evaluated at the command line and kept in this run."""
    frame = measured.evaluation_frame(process_wide.kept_scores())
    if not frame.empty:
        st.markdown("**Evaluations kept in this run** by the command line")
        shown = {"accuracy": SHARE, "KL": NATS, "same token": SHARE}
        show_table(frame, column_config=shown)
