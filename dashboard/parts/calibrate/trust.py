"""May a model run the Python code that comes with it? Only a person says so, by a switch, for one model at a time.

The leave lives in the session alone: not on disk, not in the address, and no run brings it along. Whoever submits work
that loads a model asks `may_run` and hands the answer to the job.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboard.parts.calibrate.model_picker import allowed, roots
from dashboard.parts.calibrate.own_code import MEANING, SWITCH, OwnCode, identity, own_code
from mode_core.models.errors import ModelError

LEAVES = "trusted models"  # session state: frozenset of identities
SHOWN = 8  # names of files


def may_run(source: str | None) -> bool:
    """Has the person of this session given this model leave to run its own code?"""
    return source is not None and identity(source) in st.session_state.get(LEAVES, frozenset())


def switch(source: str) -> None:
    """The switch, where it matters: a folder whose files name code of its own, or a hub id, whose files lie elsewhere.

    Where models are read below some folders only, no code from elsewhere is run either.
    """
    folder = Path(source).is_dir()
    found = own_code(source) if folder else OwnCode(())
    if found is None:
        return
    try:
        allowed(source, roots())
    except ModelError:
        below = " and ".join(map(str, roots()))
        st.caption(f":material/code_off: This dashboard runs Python code of models below {below} only.")
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
    names = [f"`{name}`" for name in found.files[:SHOWN]] + ["…"] * (len(found.files) > SHOWN)
    names += [f"code of `{name}`, which is not in its folder" for name in found.elsewhere]
    if not names:
        names = ["files of its repository"]
    return f"Python code comes with {Path(source).name if Path(source).is_dir() else source}: {', '.join(names)}."
