"""Learn: the method in seven steps on the open run; predict first, then look, then try."""

from __future__ import annotations

import streamlit as st

from dashboard.components import steps
from dashboard.parts.learn import lesson_page
from dashboard.parts.learn.lesson_ground import Ground, lecturing
from dashboard.parts.learn.lessons import LESSONS
from dashboard.parts.learn.scenes import SCENES
from dashboard.state import address, current_run


def page() -> None:
    """The row of steps, and the lesson of the present one."""
    current_run.statistics()  # says what to do where there is no run yet
    lesson_of_now()


def place() -> int:
    """Which step stands in the address, from 0."""
    return address.chosen("step", range(1, len(LESSONS) + 1), 1) - 1


@st.fragment
def lesson_of_now() -> None:
    """Everything follows the steps and controls without a rerun of the whole page."""
    now = place()
    lesson_page.style()
    labels = [lesson.label for lesson in LESSONS]
    steps(labels, now, lambda to: address.put(step=str(to + 1)), "learn-steps", screen=lecturing())
    lesson = LESSONS[now]
    with st.container(key="lesson"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.title(lesson.title)
            lesson_page.lecture_switch()
        lesson_page.draw(lesson, SCENES[lesson.key](Ground.of_session()), now)


page()
