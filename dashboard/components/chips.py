"""A sample token by token: words as chips, pictures with their patches laid over them; each can be chosen."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import streamlit as st

from dashboard.components.live_slider import DRAGGING, settles

_HERE = Path(__file__).parent
_chips = st.components.v2.component(
    "mode_chips",
    html='<div class="chips" data-part="chips" data-picks role="group"></div>',
    css=(_HERE / "chips.css").read_text(encoding="utf-8"),
    js="".join((_HERE / name).read_text(encoding="utf-8") for name in ("follow.js", "chips.js")),
)


def chips(
    names: Sequence[str],
    words: Sequence[str],
    pictures: Sequence[dict],
    lit: Callable[[], dict],
    *,
    key: str,
    template: Sequence[bool],
    on_choose: Callable[[int], None],
    follow: Callable[[], str],
) -> None:
    """Draw T tokens; a click, or the arrow keys, choose one. As with a slider, `on_choose(token)` runs, and what
    `follow` returns is shown at once; when no other is chosen for a while, everything that depends on it is drawn.

    Args:
        names: what each token is called, to be heard and hovered over, `[T]`.
        words: its text, "" for a vision token, `[T]`.
        pictures: `{"uri", "shape" (height ÷ width), "tokens" (of its cells, row by row), "columns", "alt"}` each.
        lit: makes `{"weights" (how brightly each token is lit, 0 to 1, `[T]`), "who" (the weights are for), "chosen"
            (a token), "label" (of all)}`, as it is after every choice.
        template: which the chat template added, `[T]`; they are drawn paler.
    """
    told = {"key": key, "names": list(names), "words": list(words), "pictures": list(pictures)}
    told["template"] = [bool(one) for one in template]
    with_page, alone = True, False

    def choose(value: float) -> None:
        if 0 <= int(value) < len(words):
            on_choose(int(value))

    def picked() -> None:
        nonlocal alone
        what = st.session_state[key].get("token") or {}
        alone = bool(what.get("alone"))
        st.session_state[DRAGGING] = not alone
        try:
            choose(what.get("token", -1))
        finally:
            st.session_state[DRAGGING] = False

    @st.fragment
    def draw() -> None:
        nonlocal with_page
        if alone:  # there is no chart on the page that could report it
            st.rerun()
        changed, with_page = None if with_page else json.loads(follow()), False
        _chips(key=key, data=told | lit() | {"changes": changed}, on_token_change=picked)

    settles(key, choose)
    draw()
