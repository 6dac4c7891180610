"""Imports ahead of the first visitor: the server makes them in a thread while a browser still fetches the page. First
what the page needs that opens by itself; once it is drawn the rest, and what a further page would compute longest.

A page waits for these imports before it makes any itself, since two threads in one circle of imports can block each
other.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from importlib import import_module
from pkgutil import walk_packages

from streamlit import delta_generator

FIRST = "dashboard.parts.experts."
TURN = 0.0005  # seconds; a browser asks for some ninety files meanwhile, and each waits for its turn several times
_begun, _ready, _whole, _went_on = (threading.Event() for _ in range(4))
_one_at_a_time = threading.Lock()


def begin() -> None:
    """Once, when the server starts."""
    delta_generator._use_warning_has_been_displayed = True  # else the first element waits for the paths of all modules
    _begun.set()
    threading.Thread(target=_first, daemon=True).start()


def wait() -> None:
    """Until a page can begin; not at all where nobody began."""
    if _begun.is_set():
        _ready.wait()


def rest() -> None:
    """All imports, for a page that needs others than the first."""
    if _begun.is_set() and not _whole.is_set():
        _import("")
        _whole.set()


def go_on(prepared: Callable[[], Callable[[], None] | None]) -> None:
    """Once, when the first page is drawn: the rest, and then what `prepared` returns, in a thread."""
    if not _begun.is_set() or _went_on.is_set():
        return
    _went_on.set()
    compute = prepared()

    def work() -> None:
        rest()
        if compute is not None:
            compute()

    threading.Thread(target=work, daemon=True).start()


def _first() -> None:
    try:
        _import(FIRST)
    finally:
        _ready.set()


def _import(begins: str) -> None:
    with _one_at_a_time:
        usual = sys.getswitchinterval()
        sys.setswitchinterval(TURN)
        try:
            imports(begins)
        finally:
            sys.setswitchinterval(usual)


def imports(begins: str = "") -> None:
    """What the pages import whose parts begin with this, but for torch, which only models need; and what is slow on
    first use."""
    import_module("dashboard.shell.screen")
    from dashboard import parts

    for part in walk_packages(parts.__path__, f"{parts.__name__}."):
        if f"{part.name}.".startswith(begins):
            import_module(part.name)
    import_module("scipy.special")  # for intervals
    import_module("pydantic")  # for the run's own record
