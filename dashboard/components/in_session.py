"""What a download button makes only when it is pressed: Streamlit makes it in a thread that knows no session."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from streamlit.runtime.scriptrunner import add_script_run_ctx, get_script_run_ctx


def in_session(make: Callable[[], bytes]) -> Callable[[], bytes]:
    """`make`, called later, within the session that asks now; without it `make` would find the default run and the
    default settings, whatever is on the screen."""
    asking = get_script_run_ctx()

    def made() -> bytes:
        with ThreadPoolExecutor(1, initializer=lambda: add_script_run_ctx(ctx=asking)) as own:
            return own.submit(make).result()

    return made
