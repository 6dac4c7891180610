"""The model that jobs work with: one for the whole process, and the packed experts of the last allocations asked."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from dashboard.state import model_sources, own_code
from mode_core import quantization  # its names one by one, when asked for: most of them bring torch
from mode_core.allocation import Allocation
from mode_core.jobs import Cancel, ProgressHook
from mode_core.request import Quantizer


class ModelShelf:
    """Holds one loaded model for the whole process; asking for another one replaces it. Thread-safe.

    A model that was loaded with leave to run its own code is another one than the same model without.
    Memory: one model, and the packed experts of the last `MOST_PACKED` allocations that were asked (`quantized`). While
    a job still works on the former one, both.
    """

    MOST_PACKED = 2

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: tuple[str, bool] | None = None
        self._loaded: Any = None
        self._packed: dict[str, Any] = {}  # seal -> quantized model, the last used one last

    def get(self, source: str, trusted: bool = False, fetch: bool = False) -> Any:
        """The model of this folder or hub id, loaded on the first call; others wait meanwhile. `trusted`: its own code
        may run; `fetch`: a hub id may be downloaded, where a person gave it for that.

        Raises:
            ModelError: it is not here, may not be read, cannot be loaded, or has code of its own and no leave.
        """
        from mode_core.models import load_model

        with self._lock:
            if self._held != (source, trusted):
                self._packed.clear()
                self._held = self._loaded = None  # let go of the old one before the new one takes memory
                with own_code.named_switch(source):
                    self._loaded = load_model(model_sources.allowed(source), trust_remote_code=trusted, fetch=fetch)
                self._held = source, trusted
            return self._loaded

    def quantized(
        self,
        loaded: Any,
        allocation: Allocation,
        seal: str,
        quantizer: Quantizer,
        calibration: Sequence[Any] | None,
        progress: ProgressHook,
        cancel: Cancel,
    ) -> Any:
        """The `QuantizedModel` of this seal, to be used as a context: its codes as they are kept, else made now."""
        made = self._packed.pop(seal, None)
        if made is None or made.loaded is not loaded:
            made = quantization.quantize_experts(
                loaded, allocation, quantizer, samples=calibration, progress=progress, cancel=cancel
            )
        with self._lock:
            self._packed[seal] = made
            for old in list(self._packed)[: -self.MOST_PACKED]:
                del self._packed[old]
        return made


SHELF = ModelShelf()  # the process's own
