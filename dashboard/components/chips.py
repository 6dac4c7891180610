"""A sample token by token: words as chips, pictures with their patches laid over them; each can be chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import streamlit as st

_HERE = Path(__file__).parent
_chips = st.components.v2.component(
    "mode_chips",
    html='<div class="chips" data-part="chips" data-picks role="group"></div>',
    css=(_HERE / "chips.css").read_text(encoding="utf-8"),
    js=(_HERE / "chips.js").read_text(encoding="utf-8"),
)


def chips(
    names: Sequence[str],
    words: Sequence[str],
    pictures: Sequence[dict],
    weights: Sequence[float],
    chosen: int,
    *,
    key: str,
    label: str,
    who: str,
    template: Sequence[bool],
    on_choose: Callable[[int], None],
) -> None:
    """Draw T tokens; a click, or the arrow keys, choose one: `on_choose(token)` runs before the rerun.

    Args:
        names: what each token is called, to be heard and hovered over, `[T]`.
        words: its text, "" for a vision token, `[T]`.
        pictures: `{"uri", "shape" (height ÷ width), "tokens" (of its cells, row by row), "columns", "alt"}` each.
        weights: how brightly each is lit, 0 to 1, `[T]`; told as the routing weight for `who`.
        template: which the chat template added, `[T]`; they are drawn paler.
    """

    def picked() -> None:
        token = st.session_state[key].get("token")
        if token is not None and 0 <= int(token) < len(words):
            on_choose(int(token))

    data = {"names": list(names), "words": list(words), "pictures": list(pictures), "chosen": chosen, "label": label}
    data |= {"weights": [round(float(one), 3) for one in weights], "who": who, "template": [bool(t) for t in template]}
    _chips(key=key, data=data, on_token_change=picked)
