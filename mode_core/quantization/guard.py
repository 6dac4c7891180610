"""One user of a model's weights at a time: sessions and jobs of one process share the loaded model."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from mode_core.models import LoadedModel

_LOCKS: weakref.WeakKeyDictionary[nn.Module, threading.RLock] = weakref.WeakKeyDictionary()
_QUANTIZED: weakref.WeakSet[nn.Module] = weakref.WeakSet()  # those that compute with quantized weights now
_REGISTRY = threading.Lock()


def model_lock(loaded: LoadedModel) -> threading.RLock:
    """The lock of a loaded model's weights; the same thread may take it again."""
    with _REGISTRY:
        return _LOCKS.setdefault(loaded.model, threading.RLock())


@contextmanager
def exclusive(loaded: LoadedModel) -> Iterator[None]:
    """Keep other threads from changing or running the model meanwhile; they wait.

    Everything here that runs the model or writes its weights takes this: `quantize_experts` holds it until the
    original weights are back, so that nobody measures another session's quantized weights by accident.
    """
    with model_lock(loaded):
        yield


def mark_quantized(loaded: LoadedModel, quantized: bool) -> None:
    """Note that the model computes with quantized weights now, or no longer; only while holding its lock."""
    (_QUANTIZED.add if quantized else _QUANTIZED.discard)(loaded.model)


def is_quantized(loaded: LoadedModel) -> bool:
    """True while some `QuantizedModel` has its weights in the model."""
    return loaded.model in _QUANTIZED
