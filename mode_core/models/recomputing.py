"""A backward pass that holds the weights of one layer at a time: what autograd keeps of a layer is computed again.

Autograd keeps every weight that it needs for the way back, so a model whose weights stream from disk would be in
memory as a whole. Recomputed, a decoder layer keeps what enters it alone; its weights are read again when the way back
comes to it, and let go behind it. This is torch's checkpointing without re-entrance: the graph is the plain one, with
all that goes past layers (streams added behind them, keys and values that several share), and so are the gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop


@contextmanager
def recomputed(layers: nn.ModuleList) -> Iterator[None]:
    """Passes that begin inside keep of every layer its inputs alone. Memory: these, and of one layer its weights and
    what autograd keeps of it."""
    own = {layer: layer.__dict__.get("forward") for layer in layers}
    for layer in layers:
        layer.forward = _again(layer.forward)
    try:
        yield
    finally:
        for layer, forward in own.items():
            if forward is None:
                del layer.forward
            else:
                layer.forward = forward


def _again(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        with set_checkpoint_early_stop(False):  # a layer that is cut short would not let its weights go
            return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

    return run
