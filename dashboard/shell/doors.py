"""What a first visitor sees above the first page: one sentence that says what this is, and three doors."""

from __future__ import annotations

import streamlit as st

from dashboard.state import address

SENTENCE = (
    "**Make a mixture-of-experts model that reads text and pictures fit into less memory:** see which experts text and "
    "pictures need, give each expert the bits it is worth, and measure what that costs in answers."
)
DOORS = {  # the page behind it ("" for the one that is open) -> label, icon
    "learn": ("Learn it in seven steps", ":material/school:"),
    "": ("Explore the example", ":material/grid_on:"),
    "calibrate": ("Use my model", ":material/tune:"),
}
_OPEN = "doors"  # in the session: whether they still stand


def draw() -> None:
    """For who came without a link, until a door is taken, or the page is left."""
    if not st.session_state.setdefault(_OPEN, not address.came_by_link()):
        return
    with st.container(border=True, key="doors"):
        st.markdown(SENTENCE)
        with st.container(horizontal=True):
            for page, (label, icon) in DOORS.items():
                if st.button(label, icon=icon, key=f"door:{page or 'stay'}"):
                    close()
                    if page:
                        address.go(page)
                    st.rerun()


def close() -> None:
    """Another page was opened: a person knows the way."""
    st.session_state[_OPEN] = False
