"""Models larger than memory: some of their weights stay on disk, and are read when a module is about to compute.

The reading and dropping is accelerate's, through the hooks that transformers puts on the modules of a model loaded
with a memory limit. Here is what the rest needs of it: the limit in bytes, and the weights of one module for a while.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from mode_core.models.errors import ModelError

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


def memory_bytes(limit: int | str) -> int:
    """`"12GB"`, `"800MiB"` or a number of bytes → bytes.

    Raises:
        ModelError: it is no amount of memory.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(limit))
    if found is None or found[2].upper() not in UNITS:
        raise ModelError(f"max_memory must be an amount such as 12GB or 800MiB; got {limit!r}.")
    return int(float(found[1]) * UNITS[found[2].upper()])


def is_offloaded(module: nn.Module) -> bool:
    """True where weights of the module, or of one inside it, are not in memory now."""
    return any(parameter.is_meta for parameter in module.parameters())


def check_on_disk(model: nn.Module) -> None:
    """Every weight that is not in memory must be readable from disk: one that shares its numbers with another is kept
    there under that one's name alone.

    Raises:
        ModelError: a weight that is in neither place, with what to do.
    """
    for name, part in model.named_modules():
        for hook in _hooks(part):
            held = getattr(hook, "weights_map", None)
            known = set(getattr(getattr(held, "dataset", None), "all_keys", ()))
            for own, weight in part._parameters.items():
                if known and weight is not None and weight.is_meta and f"{held.prefix}{own}" not in known:
                    raise ModelError(
                        f"max_memory is too small: {name}.{own} shares its numbers with another weight, and both would "
                        f"stay on disk. These numbers take {weight.nbytes / 1e6:.1f} MB; give more than that beside "
                        f"the room for one layer, which is kept free ({_largest_layer(model) / 1e6:.1f} MB)."
                    )


def _largest_layer(model: nn.Module) -> int:
    """Bytes of the largest module that accelerate never takes apart."""
    whole = set(getattr(model, "_no_split_modules", None) or ())
    layers = (part for part in model.modules() if type(part).__name__ in whole)
    return max((sum(weight.nbytes for weight in layer.parameters()) for layer in layers), default=0)


def execution_device(model: nn.Module) -> torch.device:
    """Where a model's inputs go; the device of its embeddings, also while these are on disk."""
    embeddings = model.get_input_embeddings()
    if not embeddings.weight.is_meta:
        return embeddings.weight.device
    device = next((h.execution_device for h in _hooks(embeddings) if h.execution_device is not None), "cpu")
    return torch.device(device)


@contextmanager
def in_memory(module: nn.Module) -> Iterator[None]:
    """The module's weights are readable meanwhile; those that were on disk are dropped again afterwards.

    Inside the module's own forward pass they are there already, and nothing is read twice. Memory: the module.
    """
    waiting = [part for part in module.modules() if any(p.is_meta for p in part._parameters.values() if p is not None)]
    if not waiting:
        yield
        return
    if unread := [type(part).__name__ for part in waiting if not hasattr(part, "_hf_hook")]:
        raise ModelError(f"The weights of {unread[0]} are neither in memory nor on disk; load the model anew.")
    try:
        for part in waiting:
            part._hf_hook.pre_forward(part)
        yield
    finally:
        for part in waiting:
            part._hf_hook.post_forward(part, None)


def _hooks(module: nn.Module) -> list:
    """The hooks on a module that know a device, whether one or several in a row."""
    hook = getattr(module, "_hf_hook", None)
    found = getattr(hook, "hooks", [hook])
    return [one for one in found if hasattr(one, "execution_device")]
