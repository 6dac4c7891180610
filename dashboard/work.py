"""What the jobs of the dashboard do, without Streamlit: they run on the worker thread."""

from __future__ import annotations

import threading
from typing import Any


class ModelShelf:
    """Holds one loaded model for the whole process; asking for another one replaces it. Thread-safe.

    Memory: one model. While a job still works on the former one, both.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._source: str | None = None
        self._loaded: Any = None

    def get(self, source: str) -> Any:
        """The model of this folder, loaded on the first call; others wait meanwhile."""
        from mode_core.models import load_model

        with self._lock:
            if self._source != source:
                self._source = self._loaded = None  # let go of the old one before the new one takes memory
                self._loaded = load_model(source)
                self._source = source
            return self._loaded
