"""Frequencies of what was served in the place of the calibration's: chosen, uploaded, and how far they lie from it."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from dashboard import charts
from dashboard.components import chart
from dashboard.parts.calibrate import trust
from dashboard.state import address, current_run, solving, traffic
from dashboard.words import names
from dashboard.words.plain import plain
from mode_core.errors import in_words
from mode_core.traffic import TrafficError, TrafficProfile, distances, kinds_told, never_calibrated

OWN = "Calibration samples"
ABOUT = (
    "A log of what an engine served with `return_routed_experts` (vLLM or SGLang, a response a line), or SGLang's "
    "recorder (.pt). Only counts are kept. Sensitivities stay those of the calibration."
)


def note() -> None:
    """A line where frequencies are not the calibration's, and whether the method looks at them at all."""
    if (found := current_run.profile()) is None:
        return
    deaf = f" {names.method(address.choices().request.method)} does not look at frequencies, so that no bit "
    deaf += "changes; MODE does."
    st.caption(f":material/query_stats: {told(found)}{'' if solving.heard() else deaf}")


def told(found: TrafficProfile) -> str:
    """Whose frequencies they are, and which kinds of token are told apart."""
    kinds, many = kinds_told(found), f"{found.requests:,} request{'s' * (found.requests != 1)}"
    return f"Frequencies of traffic: {plain(found.name)}, {many}, {kinds[0].lower()}{kinds[1:]}."


def part() -> None:
    """The choice, a place to upload a trace, and what the chosen one tells."""
    statistics = current_run.calibrated()
    left, right = st.columns([1, 1], vertical_alignment="top")
    damaged: dict[str, str] = {}
    profiles = {one.digest: one for one in traffic.kept(statistics, damaged)}
    options = ["", *profiles]
    with left:
        st.selectbox(
            "Frequencies of", options, help=ABOUT,
            format_func=lambda digest: plain(profiles[digest].name) + f" ({digest[:6]})" if digest else OWN,
            **address.bind("traffic", shown=lambda _: current_run.run_key()[2]),
        )  # fmt: skip
        note()
        for name, why in damaged.items():
            st.warning(f"{plain(name)}: damaged: {plain(why)}", icon=":material/broken_image:")
    with right:
        _upload()
    if (found := current_run.profile()) is not None:
        chart(figure(found), "traffic", table=lambda: table(found))
        st.caption(unseen(found))


def _upload() -> None:
    """A trace dropped here is counted, kept and taken at once."""
    turn = st.session_state.setdefault("traffic:turn", 0)
    given = st.file_uploader("Or a trace of what was served", traffic.SUFFIXES, key=f"traffic:{turn}", help=ABOUT)
    if given is None:
        return
    run = current_run.run()
    try:
        trusted = trust.may_run(run.model_source)
        found = traffic.keep(given.name, given.getvalue(), current_run.calibrated(), run.model_source, trusted)
    except (TrafficError, OSError) as refused:
        st.error(plain(in_words(refused)), icon=":material/error:")
        return
    st.session_state["traffic:turn"] = turn + 1
    address.choose(traffic=found.digest)
    st.rerun()


def figure(found: TrafficProfile) -> go.Figure:
    """The distance by layer."""
    rows = table(found)
    return charts.distance_by_layer(
        rows["layer"].tolist(), rows["distance"].tolist(), rows["never calibrated"].str.split().str.len().tolist()
    )


def table(found: TrafficProfile) -> pd.DataFrame:
    """A row for each layer: its distance, and the experts that traffic uses and calibration never saw."""
    statistics = current_run.calibrated()
    apart, new = distances(statistics, found), never_calibrated(statistics, found)
    return pd.DataFrame(
        {
            "layer": charts.Axes.of(statistics).ticks,
            "distance": list(apart.values()),
            "never calibrated": [" ".join(map(str, new.get(bank, ()))) for bank in apart],
        }
    )


def unseen(found: TrafficProfile) -> str:
    """How many experts traffic uses that calibration never saw, and what that means."""
    rows = table(found)
    some = rows[rows["never calibrated"] != ""]
    count = int(some["never calibrated"].str.split().str.len().sum())
    if not count:
        return "Calibration saw every expert that this traffic uses."
    first = some.iloc[0]
    return (
        f"Traffic uses {count} expert{'s' * (count != 1)} that calibration never saw, whose damage is estimated, not "
        f"measured: in layer {first['layer']} {first['never calibrated']}{' …' * (len(some) > 1)}. Calibrate on "
        "samples that are like it."
    )
