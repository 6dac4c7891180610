"""Learn: the method in seven steps on the open run; predict first, then look, then try."""

from __future__ import annotations

import streamlit as st

from dashboard.components import changes, chart, steps
from dashboard.parts.learn.lesson_ground import Ground, View
from dashboard.parts.learn.lesson_views import VIEWS
from dashboard.parts.learn.lessons import LESSONS, Lesson
from dashboard.state import address, current_run
from dashboard.words.glossary import found

# A lecture is read from the last row: larger words, and no step taller than the window.
STYLE = """<style>
.st-key-lesson [data-testid=stMarkdownContainer] p { font-size: 1.07rem; line-height: 1.5; }
.st-key-lesson .katex { font-size: 1.15rem; }
.st-key-lesson .katex-display { margin: 0.2rem 0; overflow-x: auto; overflow-y: hidden; }
.st-key-symbols [data-testid=stMarkdownContainer] p { font-size: 0.92rem; line-height: 1.5; opacity: 0.85; }
.st-key-symbols .katex { font-size: 0.98rem; }
.stMainBlockContainer { padding-bottom: 0.5rem; }
</style>"""


def page() -> None:
    """The row of steps, and the lesson of the present one."""
    current_run.statistics()  # says what to do where there is no run yet
    st.html(STYLE)
    lesson_of_now()


def place() -> int:
    """Which step stands in the address, from 0."""
    return address.chosen("step", range(1, len(LESSONS) + 1), 1) - 1


@st.fragment
def lesson_of_now() -> None:
    """Everything follows the steps and controls without a rerun of the whole page."""
    now = place()
    steps([lesson.label for lesson in LESSONS], now, lambda to: address.put(step=str(to + 1)), "learn-steps")
    lesson = LESSONS[now]
    with st.container(key="lesson"):
        st.title(lesson.title)
        draw(lesson, VIEWS[lesson.key](Ground.of_session()))


def draw(lesson: Lesson, view: View) -> None:
    """Picture on the left; words, formula, question and way on at the right."""
    guess_key = f"learn:guess:{lesson.key}"
    guess = st.session_state.get(guess_key)
    shown = guess is not None
    left, right = st.columns([1.12, 1], gap="large")
    with left:
        if view.picture is not None:
            chart(view.picture(shown), f"lesson-{lesson.key}", caption=shown, follows=True,
                  table=view.table if shown else None)  # fmt: skip
        else:
            st.info(view.note, icon=":material/info:")
            if view.command:
                st.code(view.command, language="bash", wrap_lines=True)
        control = st.container()
    with right:
        st.markdown(lesson.claim)
        st.latex(lesson.formula)
        with st.container(key="symbols"):
            st.markdown(" · ".join(f"${symbol}$ {words}" for symbol, words in lesson.symbols))
        if view.options:
            ask(view, guess_key, guess)
        with st.container(horizontal=True, vertical_alignment="center"):
            if st.button(lesson.button, icon=":material/arrow_forward:", key=f"open:{lesson.key}"):
                view.prepare()
                address.go(lesson.page)
            if st.button("Glossary", type="tertiary", icon=":material/menu_book:", key="glossary"):
                glossary()
    with control:
        if shown and view.control is not None:
            view.control(lambda: follow(lesson))


def follow(lesson: Lesson) -> str:
    """What every step of a lesson's dragged slider changes: its picture."""
    view = VIEWS[lesson.key](Ground.of_session())
    return changes({} if view.picture is None else {f"lesson-{lesson.key}": view.picture(True)})


def ask(view: View, key: str, guess: str | None) -> None:
    """Predict first; the answer comes with the picture."""
    st.segmented_control(
        f"**Predict first.** {view.question}", view.options, key=key, wrap=True, persist_state="session"
    )
    if guess is None:
        st.caption("Your guess shows the answer.")
    elif guess == view.options[view.right]:
        st.markdown(f":green[:material/check:] Right. {view.answer}")
    else:
        st.markdown(f":orange[:material/close:] You said {guess}. {view.answer}")


@st.dialog("Glossary", width="large")
def glossary() -> None:
    """Every term in plain words, to be looked through."""
    part = st.text_input("Find", placeholder="key token, sensitivity, …")
    terms = found(part)
    if not terms:
        st.caption("No term holds these letters.")
    st.markdown("\n\n".join(f"**{term}**: {said}" for term, said in terms.items()))


page()
