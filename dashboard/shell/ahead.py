"""Imports ahead of the first visitor: the server makes them in a thread while a browser still fetches the page.

A page waits for that thread before it imports anything itself, since two threads in one circle of imports can block
each other.
"""

from __future__ import annotations

import threading
from importlib import import_module
from pkgutil import walk_packages

_threads: list[threading.Thread] = []


def begin() -> None:
    """Once, when the server starts."""
    _threads.append(threading.Thread(target=imports, daemon=True))
    _threads[0].start()


def wait() -> None:
    """Until that is done; not at all where nobody began it."""
    for thread in _threads:
        thread.join()


def imports() -> None:
    """All that the pages import, but for torch, which only models need; and what is slow on first use."""
    import_module("dashboard.shell.screen")
    from dashboard import parts

    for part in walk_packages(parts.__path__, f"{parts.__name__}."):
        import_module(part.name)
    import_module("scipy.special")  # for intervals
