"""Who looks at this page, and from where, as the door before the server says it (`dashboard.shell.door`)."""

from __future__ import annotations

import os
import secrets

import streamlit as st

from dashboard.state.own_code import identity

VISITOR, LOCAL = "X-Mode-Visitor", "X-Mode-Local"  # headers that only the door sets
LEAVES = "trusted models"  # session state: frozenset of models' identities
OWN_CODE = "MODE_OWN_CODE"  # environment variable: "anywhere" lets visitors from elsewhere run a model's own code


def behind_the_door() -> bool:
    """Did the request come through the door? A page outside of any server (a test) has no headers at all."""
    headers = st.context.headers.to_dict()
    return not headers or VISITOR in headers


def visitor() -> str:
    """One name for one browser; outside of any server one for each session."""
    if "visitor" not in st.session_state:
        st.session_state["visitor"] = st.context.headers.get(VISITOR) or secrets.token_urlsafe(16)
    return st.session_state["visitor"]


def own_code_allowed() -> bool:
    """May this visitor run a model's own code: from this machine, or where the server was started so."""
    headers = st.context.headers.to_dict()
    return os.environ.get(OWN_CODE) == "anywhere" or not headers or headers.get(LOCAL) == "yes"


def may_run(source: str | None) -> bool:
    """Has the person of this session given this model leave to run its own code?"""
    leaves = st.session_state.get(LEAVES, frozenset()) if own_code_allowed() else frozenset()
    return source is not None and identity(source) in leaves
