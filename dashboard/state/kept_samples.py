"""The samples that a run keeps to be looked at: their texts, pictures and the importance of their vision tokens."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import streamlit as st
from PIL import Image

from dashboard.state.current_run import run, run_key
from dashboard.state.remembered import remembered
from dashboard.words.plain import plain
from mode_core.runs.run import Run, TokenScores
from mode_core.runs.token_routes import TokenRoutes

QUALITY = 82  # of the JPEG that goes to the browser with every redraw


def sample_records() -> dict[str, dict[str, Any]]:
    """Sample id → what the run keeps of it: text, answer, task, `thumbnails`, token counts; the first samples only."""
    return _records(run_key(), run())


def token_scores() -> dict[str, TokenScores]:
    """Sample id → importance of its vision tokens, for those of `sample_records` that have pictures.

    Raises:
        RunError: the file is damaged.
    """
    return {name: one for name, one in all_scores().items() if one.scores}


def all_scores() -> dict[str, TokenScores]:
    """The same, with samples that have sounds alone. Errors as in `token_scores`."""
    return _scores(run_key(), run())


def token_routes() -> dict[str, TokenRoutes]:
    """Sample id → which experts its tokens used, for those of `sample_records`; empty in runs without them.

    Raises:
        RunError: the file is damaged.
    """
    return _routes(run_key(), run())


@remembered(4)
def _routes(key: tuple, _run: Run) -> dict[str, TokenRoutes]:
    return _run.token_routes()


@remembered(4)
def _records(key: tuple, _run: Run) -> dict[str, dict[str, Any]]:
    return {record["id"]: record for record in _run.sample_records()}


@remembered(4)
def _scores(key: tuple, _run: Run) -> dict[str, TokenScores]:
    return _run.token_scores()


def picture(path: str) -> tuple[str, float] | None:
    """A thumbnail as a data URI, and its height ÷ width; None where the file is gone, or damaged, which is said."""
    file = Path(path)
    if not file.is_file():
        return None
    if (found := _encoded(path, file.stat().st_mtime_ns)) is None:
        st.caption(f":material/broken_image: damaged: {plain(file.name)}")
    return found


@st.cache_resource(max_entries=64, show_spinner=False)
def _encoded(path: str, stamp: int) -> tuple[str, float] | None:
    held = io.BytesIO()
    try:
        with Image.open(path) as opened:
            shape = opened.height / opened.width
            opened.convert("RGB").save(held, "JPEG", quality=QUALITY)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):  # what a damaged picture brings out
        return None
    return f"data:image/jpeg;base64,{base64.b64encode(held.getvalue()).decode()}", shape
