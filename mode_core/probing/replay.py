"""Begin a pass in the middle: what runs before a decoder layer gives what it gave before, without being computed.

Where many passes of the same inputs differ from one layer on only, everything before that layer (vision tower,
embeddings, earlier layers) is the same in all of them. One pass is recorded; in later ones those modules return copies
of what they returned. Nothing behind the layer is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map


class Replay:
    """Outputs of one pass. Memory: those of the vision tower, the embeddings and all decoder layers of one batch."""

    def __init__(self, model: nn.Module, layers: nn.ModuleList):
        self.layers = layers
        self.before = _beside(model, layers)
        self.outputs: dict[nn.Module, list[Any]] = {}

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Keep what the modules return in the one pass inside `with`."""
        begun = []
        hooks = [self.layers[0].register_forward_pre_hook(lambda *_: begun.append(True))]

        def keep(module: nn.Module, _: Any, output: Any) -> None:
            if not begun or module in known:
                self.outputs.setdefault(module, []).append(_copied(output))

        known = set(self.layers)
        hooks += [module.register_forward_hook(keep) for module in (*self.before, *self.layers)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @contextmanager
    def from_layer(self, number: int) -> Iterator[None]:
        """Passes inside `with` compute decoder layer `number` and what comes behind it; all before is replayed.

        Only modules that were called once in the recorded pass are; others are computed again.
        """
        with ExitStack() as stack:
            for module in (*self.before, *self.layers[:number]):
                if len(kept := self.outputs.get(module, ())) == 1:
                    stack.enter_context(_returning(module, kept[0]))
            yield

    def works(self, number: int, same: Callable[[], bool]) -> bool:
        """Does a pass that begins at this layer give the recorded result? `same` runs one and compares.

        It does not where layers hand on more than their output (keys and values shared between layers, say).
        """
        try:
            with self.from_layer(number):
                return same()
        except (KeyError, IndexError, AttributeError, TypeError, ValueError, RuntimeError):
            return False  # a later layer misses what an earlier one would have left for it


def _beside(model: nn.Module, layers: nn.ModuleList) -> list[nn.Module]:
    """The outermost modules that do not hold the layers."""
    beside, holder = [], model
    while holder is not layers:
        inside = next(child for child in holder.children() if any(m is layers for m in child.modules()))
        beside += [child for child in holder.children() if child is not inside]
        holder = inside
    return beside


def _copied(output: Any) -> Any:
    return tree_map(lambda part: part.clone() if isinstance(part, Tensor) else part, output)


@contextmanager
def _returning(module: nn.Module, output: Any) -> Iterator[None]:
    """Make a module return a copy of `output`, whatever it is given."""
    own = module.__dict__.get("forward")

    def forward(*_: Any, **__: Any) -> Any:
        with torch.no_grad():
            return _copied(output)

    module.forward = forward
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own
