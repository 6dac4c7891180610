"""What is on the screen: which run, model and samples, how finished, and what is out of date."""

from __future__ import annotations

import hashlib

import streamlit as st

from dashboard import jobs_panel, session
from mode_core.statistics import ExpertStatistics, StatisticsError

NAME = "MODE dashboard"
_ABOUT = (
    "Bits for every expert of a multimodal mixture-of-experts model, after [MODE](https://arxiv.org/abs/2606.17118)."
)


def draw() -> None:
    """The sidebar of every page."""
    with st.sidebar:
        st.markdown(f"**{NAME}**")
        for note in session.notes():
            st.warning(note, icon=":material/link_off:")
        try:
            _run_picker()
            _facts(session.statistics())
        except session.NoRunError as missing:
            st.caption(str(missing))
        except StatisticsError as damaged:
            st.caption(f"This run cannot be read. {damaged}")
        jobs_panel.sidebar()
        st.caption(_ABOUT)


def _run_picker() -> None:
    entries = session.runs()
    if not entries:
        raise session.NoRunError("There is no run yet. Calibrate a model on some samples; the result opens by itself.")
    labels = {entry.name: entry.label for entry in entries}
    key, wanted = "widget:run", session.wanted_run()
    if wanted and wanted not in labels:
        labels[wanted] = f"{wanted} (missing)"
    st.session_state[key] = wanted or entries[0].name
    st.selectbox(
        "Run",
        list(labels),
        key=key,
        format_func=labels.get,
        on_change=lambda: session.open_run(st.session_state[key]),
        help="The bundled example, and the runs made here.",
    )


def _facts(statistics: ExpertStatistics) -> None:
    """Model, samples and state of the open run, in three lines."""
    first = next(iter(statistics))
    vision = first.vision("tokens", statistics.signals[0]).sum()
    share = vision / max(1.0, vision + first.text("tokens"))
    digest = hashlib.sha256("\n".join(sorted(statistics.samples)).encode()).hexdigest()[:8]
    experts = sorted({bank.shape.experts for bank in statistics})
    shape = f"{len(statistics.banks)} banks × {' or '.join(map(str, experts))} experts, top-{first.shape.top_k}"
    st.markdown(
        f"**Model** {statistics.settings.get('model', 'unknown')}  \n{shape}\n\n"
        f"**Samples** {len(statistics.samples)} (`{digest}`)  \n"
        f"{100 * share:.0f} % of their tokens are vision tokens\n\n"
        f"**State** {session.run_state()}"
    )
