"""Talk to all three: a conversation with the original, this allocation and uniform bits side by side."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, replace

import streamlit as st

from dashboard.jobs import work
from dashboard.parts.calibrate import trust
from dashboard.parts.quantize import quantizing, results, verdict
from dashboard.parts.quantize.measuring import answerable
from dashboard.state import current_run, estimating, process_wide, solving
from dashboard.state.measured import ALLOCATION, MODELS, ORIGINAL, UNIFORM
from dashboard.words.plain import plain
from mode_core.allocation import Allocation
from mode_core.evaluation.records import Answer
from mode_core.samples import IMAGE_MARK, ImageSource, Sample, SampleError
from mode_core.samples.records import IMAGE_SUFFIXES

MOST_TURNS = 12  # of one conversation
TURNS = "ask:turns"  # in the session
HOW = (
    "Each model goes on from its own answers. The model stays loaded, and beside it the packed experts of the last two "
    "allocations that were asked, so a further turn rounds nothing anew. Underlined: from where an answer parts."
)
STYLE = "<style>.said u { text-underline-offset: 3px; } .said span { white-space: pre-wrap; }</style>"


@dataclass(frozen=True)
class Turn:
    """One question, the picture that came with it, the seals of what was asked, and the answers of `MODELS`."""

    question: str
    picture: ImageSource | None
    seals: tuple[str, str]
    rival: str
    answers: dict[str, Answer] | None = None  # None while the job has not ended


def samples_of(turns: Sequence[Turn]) -> dict[str, Sample]:
    """Model → the conversation as it had it: all questions, and its own answers between them.

    Raises:
        SampleError: a text that holds a mark for a picture.
    """
    pictures = tuple(turn.picture for turn in turns if turn.picture is not None)
    found = {}
    for model in MODELS:
        messages: list[dict[str, str]] = []
        for turn in turns:
            mark = IMAGE_MARK if turn.picture else ""
            messages.append({"role": "user", "content": f"{mark}{turn.question}"})
            if turn.answers is not None:
                messages.append({"role": "assistant", "content": turn.answers[model].text})
        found[model] = Sample(pictures, tuple(messages))
    return found


def part(chosen: Allocation, uniform: Allocation, ready: bool) -> None:
    """The turns so far, and the next question."""
    st.subheader("Talk to all three")
    st.caption(HOW)
    turns = finished_turns()
    seals = (solving.fingerprint(chosen), solving.fingerprint(uniform))
    stale = bool(turns) and turns[-1].seals != seals
    waiting = bool(turns) and turns[-1].answers is None
    for turn in turns:
        show(turn)
    if stale:
        st.warning("Out of date: the settings have changed since. Begin a new conversation.", icon=":material/history:")
    if turns and st.button("New conversation", key="ask:new", icon=":material/restart_alt:", disabled=waiting):
        st.session_state[TURNS] = ()
        st.rerun()
    if stale or waiting:
        return
    if len(turns) >= MOST_TURNS:
        st.caption(f"A conversation has at most {MOST_TURNS} turns; begin a new one.")
        return
    left, right = st.columns([1, 2])
    with left:
        picture, question = picture_part(len(turns))
    with right:
        # the key holds the turn: a further question begins empty
        question = st.text_input("Question", value=question, key=f"ask:question:{len(turns)}:{question}").strip()
        if st.button("Ask", disabled=not (ready and question), key="ask:go"):
            ask(turns, Turn(question, picture, seals, estimating.uniform_name(uniform)), chosen, uniform)


def ask(turns: tuple[Turn, ...], turn: Turn, chosen: Allocation, uniform: Allocation) -> None:
    """Send the conversation with one more question to all three."""
    try:
        asked = samples_of((*turns, turn))
    except SampleError as refused:
        st.error(plain(refused), icon=":material/error:")
        return
    run = current_run.run()
    job = process_wide.start(
        "Asking three models", "ask", work.ask, process_wide.shelf(), run, {ALLOCATION: chosen, UNIFORM: uniform},
        dict(zip((ALLOCATION, UNIFORM), turn.seals, strict=True)), solving.quantizer(), asked,
        quantizing.calibration_samples(), trusted=trust.may_run(run.model_source),
    )  # fmt: skip
    if job:
        st.session_state[TURNS], st.session_state["ask:job"] = (*turns, turn), job.id
        st.rerun()


def finished_turns() -> tuple[Turn, ...]:
    """The turns, the last with its answers once they are there; one that failed or was cancelled is taken back."""
    turns: tuple[Turn, ...] = st.session_state.get(TURNS, ())
    if turns and turns[-1].answers is None:
        job = process_wide.jobs().get(st.session_state.get("ask:job"))
        if job is None or not job.active:
            done = job is not None and job.state == "done"
            turns = (*turns[:-1], *([replace(turns[-1], answers=job.result)] if done else []))
            st.session_state[TURNS] = turns
    return turns


def picture_part(turn: int) -> tuple[ImageSource | None, str]:
    """A bundled picture (with its own question), an uploaded one, or none, as later turns begin."""
    samples = [sample for sample in answerable() if len(sample.images) == 1]
    found = results.shown()
    apart = {row.id for row in verdict.broken(found)[verdict.WHO[0]]} if found else set()
    samples.sort(key=lambda sample: sample.id not in apart)  # stable: those on which they part come first
    options = ["Bundled", "Upload", "None"] if samples else ["Upload", "None"]
    which = st.segmented_control(
        "Picture", options, default="None" if turn else options[0], required=True,
        key="ask:which" if not turn else f"ask:which:{turn}", persist_state="session",
    )  # fmt: skip
    if which == "None":
        return None, ""
    if which == "Upload":
        file = st.file_uploader("A picture", [suffix[1:] for suffix in IMAGE_SUFFIXES], key=f"ask:upload:{turn}")
        source, question = (ImageSource(file.name, data=file.getvalue()) if file else None), ""
    else:
        mark = "they part · "
        names = {
            f"{mark * (sample.id in apart)}{sample.task or 'picture'} · {sample.text[:60]} · {sample.id}": sample
            for sample in samples
        }
        key = f"ask:sample:{found.fingerprint if found else ''}"  # after a measurement, one on which they part
        sample = names[st.selectbox("Which", list(names), key=key, persist_state="session")]
        source, question = sample.images[0], sample.text
        if sample.answer:
            st.caption(f"Expected answer: {plain(sample.answer)}")
    return (source if source is not None and shown_picture(source, 220) else None), question


def shown_picture(source: ImageSource, width: int) -> bool:
    """Show it; a damaged one is told, and False."""
    try:
        st.image(source.load(), width=width, alt=source.name)
    except SampleError as refused:
        st.error(plain(refused))
        return False
    return True


def show(turn: Turn) -> None:
    """A question, and three answers side by side; from where one parts from the original's it is underlined."""
    with st.container(border=True):
        if turn.picture is not None:
            shown_picture(turn.picture, 110)
        st.markdown(f"**{plain(turn.question)}**")
        if turn.answers is None:
            st.caption("Asking …")
            return
        labels = {ORIGINAL: "original", ALLOCATION: "this allocation", UNIFORM: turn.rival}
        for cell, (model, answer) in zip(st.columns(3), turn.answers.items(), strict=True):
            cell.caption(labels[model])
            cell.html(said(answer, turn.answers[ORIGINAL]))


def said(answer: Answer, original: Answer) -> str:
    """An answer as HTML, every token with its probability on hover, underlined from the first that parts on."""
    parted = first_difference(answer.tokens, original.tokens)
    spans = [
        f"<span title='token {place}, {100 * probability:.0f} % sure'>{html.escape(token)}</span>"
        for place, (token, probability) in enumerate(zip(answer.tokens, answer.probabilities, strict=True))
    ]
    gap, end = " " if spaced(answer) else "", len(spans) if parted is None else parted
    text = gap.join(spans[:end]) + (f"{gap}<u>{gap.join(spans[end:])}</u>" if spans[end:] else "")
    least = f"least sure: {100 * min(answer.probabilities):.0f} %" if answer.probabilities else "(no answer)"
    ends = {None: "", len(answer.tokens): ", ends earlier"}
    where = ends.get(parted, f", parts at token {parted}")
    return f"{STYLE}<div class='said'>{text}<br><small>{least}{where}</small></div>"


def spaced(answer: Answer) -> bool:
    """Do the model's tokens leave out the spaces between words, so that these have to be put back?"""
    return "".join(answer.tokens).strip() != answer.text and " ".join(answer.tokens).strip() == answer.text


def first_difference(tokens: Sequence[str], original: Sequence[str]) -> int | None:
    """Place of the first token that is not the original's; None where all are the same."""
    for place, (ours, theirs) in enumerate(zip(tokens, original, strict=False)):
        if ours != theirs:
            return place
    return None if len(tokens) == len(original) else min(len(tokens), len(original))
