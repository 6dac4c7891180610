"""The name of the run to be made, and the state of a run that has it already."""

from __future__ import annotations

import re
import time

import streamlit as st

from dashboard.state import folders, process_wide
from dashboard.words.plain import plain
from mode_core.errors import ModeError
from mode_core.run import Run

NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}")


def part() -> str | None:
    """A name for the run that is not taken; None while it will not do."""
    if "calibrate:name" not in st.session_state:
        st.session_state["calibrate:name"] = folders.free_name(time.strftime("run-%m%d-%H%M%S"))
    name = st.text_input("Name of the run", key="calibrate:name", persist_state="session").strip()
    if not NAME.fullmatch(name):
        st.error("A run's name has letters, digits, '.', '-' and '_', at most 64, and begins with a letter or digit.")
    elif half_done(name):
        st.info(f"The run {plain(repr(name))} is half done. With its model, samples and settings it is continued.")
        return name
    elif (folders.runs_folder() / name).exists() or name == folders.BUNDLED or process_wide.run_busy(name):
        st.error(f"There is a run called {plain(repr(name))} already; choose another name.")
    else:
        return name
    return None


def half_done(name: str) -> bool:
    """Is there a run of that name that was interrupted?"""
    return not process_wide.run_busy(name) and state_of(name) in ("begun", "half done")


def state_of(name: str) -> str | None:
    """The state of the run of that name; None where there is none, or one that cannot be read."""
    try:
        return Run.open(folders.runs_folder() / name).state
    except (ModeError, OSError):
        return None
