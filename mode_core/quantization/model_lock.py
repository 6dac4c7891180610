"""One user of a model's weights at a time: sessions and jobs of one process share the loaded model."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import nn

from mode_core.errors import QuantizationError

if TYPE_CHECKING:
    from mode_core.models import LoadedModel

_LOCKS: weakref.WeakKeyDictionary[nn.Module, threading.RLock] = weakref.WeakKeyDictionary()
_QUANTIZED: weakref.WeakSet[nn.Module] = weakref.WeakSet()  # those that compute with quantized weights now
_REGISTRY = threading.Lock()


@contextmanager
def exclusive(loaded: LoadedModel) -> Iterator[None]:
    """Keep other threads from changing or running the model meanwhile; they wait.

    Everything here that runs the model or writes its weights takes this: `quantize_experts` holds it until the
    original weights are back, so that nobody measures another session's quantized weights by accident. The same thread
    may take it again.
    """
    with _REGISTRY:
        lock = _LOCKS.setdefault(loaded.model, threading.RLock())
    with lock:
        yield


@contextmanager
def original(loaded: LoadedModel, changing: bool = False) -> Iterator[None]:
    """`exclusive`, of a model with its original weights; `changing`: which get quantized within the block.

    Raises:
        QuantizationError: the model has quantized weights in it now.
    """
    with exclusive(loaded):
        if loaded.model in _QUANTIZED:
            raise QuantizationError("The model is quantized now; restore it (leave its 'with' block) first.")
        if changing:
            _QUANTIZED.add(loaded.model)
        try:
            yield
        finally:
            if changing:
                _QUANTIZED.discard(loaded.model)
