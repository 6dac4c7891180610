"""One picture and one question to all three models, and where their answers part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from dashboard.jobs import work
from dashboard.parts.calibrate import trust
from dashboard.parts.quantize import quantizing, results, verdict
from dashboard.parts.quantize.measuring import answerable
from dashboard.state import current_run, estimating, process_wide, solving
from dashboard.state.measured import ALLOCATION, ORIGINAL, UNIFORM
from dashboard.words.plain import plain
from mode_core.allocation import Allocation
from mode_core.samples import ImageSource, Sample, SampleError
from mode_core.samples.records import IMAGE_SUFFIXES


def part(chosen: Allocation, uniform: Allocation, ready: bool) -> None:
    """One picture and one question to all three models."""
    st.subheader("Ask all three")
    left, right = st.columns([1, 2])
    with left:
        picture, question = picture_part()
    with right:
        question = st.text_input("Question", value=question, key=f"ask:question:{question}").strip()
        if st.button("Ask", disabled=not (ready and question), key="ask:go"):
            mark = "<image>" if picture else ""
            sample = Sample((picture,) if picture else (), ({"role": "user", "content": mark + question},))
            job = process_wide.start(
                "Asking three models", "ask", work.ask, process_wide.shelf(), current_run.run(), chosen, uniform,
                solving.quantizer(), sample, quantizing.calibration_samples(),
                trusted=trust.may_run(current_run.run().model_source),
            )  # fmt: skip
            if job:
                st.session_state["ask:about"] = (
                    question,
                    solving.fingerprint(chosen),
                    estimating.uniform_name(uniform),
                )
                st.session_state["ask:job"] = job.id
                st.rerun()
        answers_part()


def picture_part() -> tuple[ImageSource | None, str]:
    """A bundled picture (with its own question) or an uploaded one."""
    samples = [sample for sample in answerable() if len(sample.images) == 1]
    found = results.shown()
    apart = {row.id for row in verdict.broken(found)[verdict.WHO[0]]} if found else set()
    samples.sort(key=lambda sample: sample.id not in apart)  # stable: those on which they part come first
    options = ["Bundled", "Upload", "None"] if samples else ["Upload", "None"]
    which = st.segmented_control(
        "Picture", options, default=options[0], required=True, key="ask:which", persist_state="session"
    )
    if which == "None":
        return None, ""
    if which == "Upload":
        file = st.file_uploader("A picture", [suffix[1:] for suffix in IMAGE_SUFFIXES], key="ask:upload")
        source, question = (ImageSource(file.name, data=file.getvalue()) if file else None), ""
    else:
        mark = "they part · "
        names = {
            f"{mark * (sample.id in apart)}{sample.task or 'picture'} · {sample.text[:60]} · {sample.id}": sample
            for sample in samples
        }
        sample = names[st.selectbox("Which", list(names), key="ask:sample", persist_state="session")]
        source, question = sample.images[0], sample.text
        if sample.answer:
            st.caption(f"Expected answer: {plain(sample.answer)}")
    if source is not None:
        try:
            st.image(source.load(), width=220, alt=source.name)
        except SampleError as refused:
            st.error(plain(refused))
            return None, ""
    return source, question


def answers_part() -> None:
    """Three answers side by side, with the tokens and how sure each model was of them."""
    job = process_wide.jobs().get(st.session_state.get("ask:job"))
    if job is None or job.state != "done":
        return
    question, seal, rival = st.session_state["ask:about"]
    stale = " (out of date: the settings have changed since)" if seal != solving.fingerprint() else ""
    st.caption(f"“{plain(question)}”{stale}")
    labels = {ORIGINAL: "original", ALLOCATION: "this allocation", UNIFORM: rival}
    for cell, (model, answer) in zip(st.columns(3), job.result.items(), strict=True):
        with cell.container(border=True):
            st.caption(labels[model])
            st.markdown(f"**{plain(answer.text) or '(no answer)'}**")
            st.caption(token_line(answer, job.result[ORIGINAL]))


def token_line(answer: Any, original: Any) -> str:
    """Tokens with their probabilities; the first one that parts from the original's is marked."""
    parted = first_difference(answer.tokens, original.tokens)
    shown = []
    for place, (token, probability) in enumerate(zip(answer.tokens, answer.probabilities, strict=True)):
        text = f"{plain(token)} {100 * probability:.0f} %"
        shown.append(f":orange-background[{text}]" if place == parted else text)
    return " · ".join(shown) + (" (ends earlier)" if parted == len(answer.tokens) else "")


def first_difference(tokens: Sequence[str], original: Sequence[str]) -> int | None:
    """Place of the first token that is not the original's; None where all are the same."""
    for place, (ours, theirs) in enumerate(zip(tokens, original, strict=False)):
        if ours != theirs:
            return place
    return None if len(tokens) == len(original) else min(len(tokens), len(original))
