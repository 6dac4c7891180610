"""May a model run the Python code that comes with it? Only a person says so, by a switch, for one model at a time, and
at this machine, unless the server was started with MODE_OWN_CODE=anywhere.

The leave lives in the session alone: not on disk, not in the address, and no run brings it along. Whoever submits work
that loads a model asks `may_run` and hands the answer to the job.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboard.state import model_sources
from dashboard.state.own_code import MEANING, SWITCH, OwnCode, identity, own_code
from dashboard.state.visitor import LEAVES, OWN_CODE, may_run, own_code_allowed
from dashboard.words.plain import plain
from mode_core.models.errors import ModelError

SHOWN = 8  # names of files


def switch(source: str) -> None:
    """The switch, where it matters: a folder whose files name code of its own, or a hub id, whose files lie elsewhere.

    Where models are read below some folders only, no code from elsewhere is run either.
    """
    folder = Path(source).is_dir()
    try:
        model_sources.allowed(source)
    except ModelError as refused:
        st.caption(f":material/code_off: {plain(refused)}")
        return
    found = own_code(source) if folder else OwnCode(())
    if found is None:
        return
    if not own_code_allowed():
        st.caption(
            ":material/code_off: A model's own Python code is run for nobody but a person at this machine, unless the "
            f"dashboard was started with {OWN_CODE}=anywhere."
        )
        return
    key = f"trust:{identity(source)}"
    st.session_state[key] = may_run(source)
    st.toggle(SWITCH, key=key, on_change=_set, args=(identity(source), key), help=None if folder else MEANING)
    if folder or may_run(source):
        st.caption(f":material/code: {_words(source, found)} {MEANING}")


def _set(model: str, key: str) -> None:
    held = st.session_state.get(LEAVES, frozenset())
    st.session_state[LEAVES] = held | {model} if st.session_state[key] else held - {model}


def _words(source: str, found: OwnCode) -> str:
    """What the code is, in one sentence."""
    names = [plain(name) for name in found.files[:SHOWN]] + ["…"] * (len(found.files) > SHOWN)
    names += [f"code of {plain(name)}, which is not in its folder" for name in found.elsewhere]
    if not names:
        names = ["files of its repository"]
    return (
        f"Python code comes with {plain(Path(source).name if Path(source).is_dir() else source)}: {', '.join(names)}."
    )
