"""Where it breaks: the items that the three models do not answer alike, with their pictures and all three answers."""

from __future__ import annotations

import streamlit as st

from dashboard.parts.quantize import measuring
from dashboard.parts.quantize.verdict import WHO, broken, parted
from dashboard.state.measured import ALLOCATION, MODELS, UNIFORM, Measurement
from dashboard.words.plain import plain
from mode_core.evaluation.answer_rows import AnswerRow
from mode_core.samples import SampleError

AT_ONCE = 6
LONGEST = 240  # characters of an answer that are shown
PICTURE = 110  # pixels


def part(found: Measurement) -> None:
    """Which items, and six of them at a time."""
    st.subheader("Where it breaks")
    groups = broken(found)
    if not groups[WHO[0]]:
        st.caption("All three models answer every item alike.")
        return
    labels = {who: f"{who}: {len(rows)}" for who, rows in groups.items()}
    who = st.segmented_control(
        "Items", WHO, format_func=labels.get, default=WHO[0], required=True, key="broken:who", persist_state="session",
        label_visibility="collapsed",
    )  # fmt: skip
    rows, key = groups[who], f"broken:more:{found.fingerprint}:{who}"
    for row in rows[: (shown := AT_ONCE * (1 + st.session_state.get(key, 0)))]:
        _item(row, found)
    if shown < len(rows) and st.button(f"Show more of {len(rows)}", key="broken:more"):
        st.session_state[key] = st.session_state.get(key, 0) + 1
        st.rerun()


def _item(row: AnswerRow, found: Measurement) -> None:
    """Picture and question, and what each model said; orange where it parts from the original."""
    with st.container(border=True):
        picture, question, *answers = st.columns([1.1, 2.4, 1.6, 1.6, 1.6])
        sample = measuring.at_hand().get(row.id)
        with picture:
            if sample is None and row.modality == "vision":
                st.caption("picture not at hand")
            for source in sample.images[:1] if sample else ():
                try:
                    st.image(source.load(), width=PICTURE, alt=source.name)
                except SampleError:
                    st.caption(":material/broken_image: damaged")
        expected = f"  \nExpected: **{plain(row.expected)}**" if row.expected else ""
        question.markdown(plain(row.question[:LONGEST]) + expected)
        for cell, model in zip(answers, MODELS, strict=True):
            cell.caption(found.label(model))
            said = plain(row.given[model][:LONGEST]) or "(no answer)"
            mark = {True: ":material/check: ", False: ":material/close: ", None: ""}[row.correct[model]]
            apart = model in (ALLOCATION, UNIFORM) and parted(row, model)
            cell.markdown(mark + (f":orange-background[{said}]" if apart else said))
