"""One lesson on the screen: picture and control on the left; words, formula, question and way on at the right."""

from __future__ import annotations

import streamlit as st

from dashboard.charts.lecture import for_a_hall
from dashboard.components import changes, chart
from dashboard.parts.learn.lesson_claims import Finding
from dashboard.parts.learn.lesson_ground import Ground, Scene, lecturing
from dashboard.parts.learn.lessons import LESSONS, Lesson
from dashboard.parts.learn.scenes import SCENES
from dashboard.state import address
from dashboard.words.glossary import found

# A lecture is read from the last row: larger words, and no step taller than the window.
STYLE = """
.st-key-lesson [data-testid=stMarkdownContainer] p { font-size: 1.07rem; line-height: 1.5; }
.st-key-lesson .katex { font-size: 1.15rem; }
.st-key-lesson .katex-display { margin: 0.2rem 0; overflow-x: auto; overflow-y: hidden; }
.st-key-symbols [data-testid=stMarkdownContainer] p { font-size: 0.92rem; line-height: 1.5; opacity: 0.85; }
.st-key-symbols .katex { font-size: 0.98rem; }
.st-key-findings { gap: 0.4rem; }
.st-key-findings [data-testid=stMarkdownContainer] p { font-size: 0.92rem; line-height: 1.45; }
.stMainBlockContainer { padding-bottom: 0.5rem; }
"""
# In a lecture hall nothing but the lesson is on the screen, and no letter is below 18 px; they grow with the window.
HALL = """
html { font-size: clamp(18px, 1.3vw, 36px) !important; --letters: 1rem; }
[data-testid=stSidebar], [data-testid=stHeader], [data-testid=stExpandSidebarButton] { display: none !important; }
.stMainBlockContainer { padding: 0.4rem 1.2rem 0.2rem; }
.stMain [data-testid=stMarkdownContainer] p, .stMain [data-testid=stCaptionContainer] p, .stMain label p,
.stMain button, .stMain button p, .stMain summary, .stMain summary p, .stMain .figure-foot, .stMain .figure-foot button,
.stMain [data-testid=stHeading] { font-size: 1rem !important; line-height: 1.35 !important; }
.stMain [data-testid=stHeading] h1 { font-size: 1.35rem; padding: 0; }
.st-key-lesson .katex, .st-key-symbols .katex { font-size: 1.05em !important; }
"""

SAID = {
    "otherwise": ":orange[:material/error:] **On this run it is otherwise.**",
    "holds": ":green[:material/check:] **On this run too.**",
    "open": ":gray[:material/help:] **Not settled on this run.**",
}


def draw(lesson: Lesson, scene: Scene, place: int) -> None:
    """Picture on the left; words, formula, question and way on at the right. `place`: which lesson this is, from 0."""
    guess_key = f"learn:guess:{lesson.key}"
    guess = st.session_state.get(guess_key)
    shown = guess is not None
    left, right = st.columns([1.12, 1], gap="large")
    with left:
        if scene.picture is not None:
            figure = scene.picture(shown)
            chart(for_a_hall(figure) if lecturing() else figure, f"lesson-{lesson.key}", caption=shown, follows=True,
                  table=scene.table if shown else None)  # fmt: skip
        else:
            st.info(scene.note, icon=":material/info:")
            if scene.command:
                st.code(scene.command, language="bash", wrap_lines=True)
        control = st.container()
    with right:
        st.markdown(lesson.claim)
        st.latex(lesson.formula)
        with st.container(key="symbols"):
            st.markdown(" · ".join(f"${symbol}$ {words}" for symbol, words in lesson.symbols))
        if scene.options:
            ask(scene, guess_key, guess)
        if scene.findings is not None:
            say(scene.findings(), shown)
        with st.container(horizontal=True, vertical_alignment="center"):
            walk("Back", ":material/chevron_left:", place - 1)
            walk("Next", ":material/chevron_right:", place + 1)
            if st.button(lesson.button, icon=":material/arrow_forward:", key=f"open:{lesson.key}"):
                scene.prepare()
                address.go(lesson.page)
            if st.button("Glossary", type="tertiary", icon=":material/menu_book:", key="glossary"):
                glossary()
    with control:
        if shown and scene.control is not None:
            scene.control(lambda: follow(lesson))


def style() -> None:
    """How lessons look: beside the rest of the dashboard, or in a lecture hall."""
    st.html(f"<style>{STYLE}{HALL if lecturing() else ''}</style>")


def lecture_switch() -> None:
    """On or off, as the address has it."""
    key = "widget:place:lecture"
    st.session_state[key] = lecturing()
    st.toggle("Lecture mode", key=key, on_change=lambda: address.put(lecture="on" if st.session_state[key] else None),
              help="Larger letters and nothing else on the screen; the address keeps it.")  # fmt: skip


def walk(label: str, icon: str, to: int) -> None:
    """A button to the lesson before or after; off at the ends."""
    there = 0 <= to < len(LESSONS)
    st.button(label, icon=icon, key=f"learn:{label}", disabled=not there,
              on_click=lambda: address.put(step=str(to + 1)))  # fmt: skip


def follow(lesson: Lesson) -> str:
    """What every step of a lesson's dragged slider changes: its picture."""
    scene = SCENES[lesson.key](Ground.of_session())
    if scene.picture is None:
        return changes({})
    figure = scene.picture(True)
    return changes({f"lesson-{lesson.key}": for_a_hall(figure) if lecturing() else figure})


def ask(scene: Scene, key: str, guess: str | None) -> None:
    """Predict first; the answer comes with the picture."""
    st.segmented_control(
        f"**Predict first.** {scene.question}", scene.options, key=key, wrap=True, persist_state="session"
    )
    if guess is None:
        st.caption("Your guess shows the answer.")
    elif guess == scene.options[scene.right]:
        st.markdown(f":green[:material/check:] Right. {scene.answer}")
    else:
        st.markdown(f":orange[:material/close:] You said {guess}. {scene.answer}")


def say(findings: list[Finding], shown: bool) -> None:
    """What this run says of the lesson's claims. Before the guess only that it contradicts one, since the numbers would
    give the answer away."""
    with st.container(key="findings"):
        if not shown:
            if any(one.verdict == "otherwise" for one in findings):
                st.markdown(f"{SAID['otherwise']} Your guess shows in what, with the numbers.")
            return
        for verdict, label in SAID.items():
            if told := [one.words for one in findings if one.verdict == verdict]:
                st.markdown(f"{label} {' '.join(told)}")


@st.dialog("Glossary", width="large")
def glossary() -> None:
    """Every term in plain words, to be looked through."""
    part = st.text_input("Find", placeholder="key token, sensitivity, …")
    terms = found(part)
    if not terms:
        st.caption("No term holds these letters.")
    st.markdown("\n\n".join(f"**{term}**: {said}" for term, said in terms.items()))
