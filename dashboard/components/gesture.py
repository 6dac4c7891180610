"""What was shown before the last change, where a drag of many small steps counts as one change."""

from __future__ import annotations

import time
from typing import Any

import streamlit as st

PAUSE = 1.5  # seconds without a change after which the next one begins a new gesture


def before_change(key: str, setting: Any, shown: Any, clock: float | None = None) -> Any:
    """What was shown under another setting before the present gesture; None where nothing was yet.

    Call it on every run with the present `setting` (comparable) and what it leads to (`shown`). Kept per
    session: two values of `shown`.
    """
    now = time.monotonic() if clock is None else clock
    kept = st.session_state.setdefault(key, {"setting": setting, "shown": shown, "before": None, "changed": -PAUSE})
    if setting != kept["setting"]:
        if now - kept["changed"] > PAUSE:
            kept["before"] = kept["shown"]
        kept |= {"setting": setting, "changed": now}
    kept["shown"] = shown
    return kept["before"]
