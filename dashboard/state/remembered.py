"""Results that are kept for the whole process. Streamlit's own cache takes a third of a millisecond to make a key of a
request, some forty times at every step of a dragged slider; and any visitor can clear it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import nullcontext
from functools import lru_cache, wraps
from typing import Any, TypeVar

import streamlit as st

Result = TypeVar("Result")


class _Named:
    """Something large that the key beside it names: no two of one key are told apart."""

    def __init__(self, it: Any) -> None:
        self.it = it

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Named)

    def __hash__(self) -> int:
        return 0


def remembered(entries: int, spinner: str = "") -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """For `compute(key, of, *asked)`: the last `entries` results are kept by `key` and `asked`, not by `of`, which the
    key names (a run, say, by its folder and its last change). While it computes, `spinner` is shown."""

    def decorate(compute: Callable[..., Result]) -> Callable[..., Result]:
        @lru_cache(maxsize=entries)
        def kept(key: Hashable, of: _Named, *asked: Hashable) -> Result:
            with st.spinner(spinner) if spinner else nullcontext():
                return compute(key, of.it, *asked)

        @wraps(compute)
        def remember(key: Hashable, of: Any, *asked: Hashable) -> Result:
            return kept(key, _Named(of), *asked)

        return remember

    return decorate
