"""Where a model's attention can be read, layer by layer, whatever the family computes it with.

Three ways, in the order of preference: transformers' attention interface (the rule; the probe registers a function
there); a method `_scaled_dot_product_attention(q, k, v, attn_mask, …)` of the attention module (OLMo, Molmo); an option
`output_attentions` of its call (older and remote code), which holds one layer's heads × L × L weights for a moment.
Layers with linear attention, convolutions or state spaces have none of these: what ranks the vision tokens there is the
attention of the nearest layer before that has one, else of the first one after.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn

from mode_core.errors import CalibrationError
from mode_core.models import LoadedModel
from mode_core.models.bank_search import layer_prefix
from mode_core.probing.attention import weighted_rows

SCALED_DOT_PRODUCT = "_scaled_dot_product_attention"
Tell = Callable[[int, Callable[[Tensor], Tensor]], None]  # (layer, row weights [S, batch, L] -> scores [S, batch, L])


class Read(StrEnum):
    """How the attention of a layer is read."""

    INTERFACE = "transformers' attention interface"
    METHOD = f"its method {SCALED_DOT_PRODUCT}"
    RETURNED = "its option output_attentions"


@dataclass(frozen=True)
class LayerAttention:
    """The attention module of one decoder layer."""

    layer: int
    module: nn.Module
    read: Read


def find_attention(layers: Iterable[nn.Module]) -> dict[int, LayerAttention]:
    """Decoder layers → the attention of those that have one that can be read, by number of the layer."""
    attention = {}
    for number, layer in enumerate(layers):
        ways = [(read, module) for module in layer.modules() if (read := _way(module)) is not None]
        if ways:
            read, module = min(ways, key=lambda way: list(Read).index(way[0]))
            attention[number] = LayerAttention(number, module, read)
    return attention


def _way(module: nn.Module) -> Read | None:
    forward = inspect.unwrap(type(module).forward)
    code = getattr(forward, "__code__", None)
    if code is not None and "ALL_ATTENTION_FUNCTIONS" in code.co_names:
        return Read.INTERFACE
    if callable(getattr(module, SCALED_DOT_PRODUCT, None)):
        return Read.METHOD
    attends = type(module).__name__.lower().endswith("attention")
    return Read.RETURNED if attends and "output_attentions" in inspect.signature(forward).parameters else None


def serving(layer: int, attending: Iterable[int]) -> int | None:
    """The layer whose attention ranks the vision tokens of `layer`: itself, else the nearest before, else after."""
    known = sorted(attending)
    before = [number for number in known if number <= layer]
    return before[-1] if before else next(iter(known), None)


def borrowed_attention(loaded: LoadedModel) -> dict[str, int]:
    """Banks in layers without an attention of their own → the layer whose attention ranks their vision tokens."""
    if not loaded.vision_ids:
        return {}
    attending = find_attention(decoder_layers(loaded)[1])
    serving_of = {bank.name: (bank.layer, serving(bank.layer, attending)) for bank in loaded.banks.values()}
    return {name: other for name, (own, other) in serving_of.items() if other not in (None, own)}


def decoder_layers(loaded: LoadedModel) -> tuple[str, nn.ModuleList]:
    """The list of decoder layers that hold the banks, and its name.

    Raises:
        CalibrationError: the banks lie in different lists.
    """
    names = {layer_prefix(name)[0] for name in loaded.banks}
    if len(names) > 1:
        raise CalibrationError(f"The banks lie in different decoders ({', '.join(sorted(names))}); load one of them.")
    name = names.pop()
    return name, loaded.model.get_submodule(name)


def read_past_interface(attention: LayerAttention, tell: Tell) -> Callable[[], None]:
    """Make a layer that does not use the interface tell of its attention; returns what undoes that."""
    return (_by_method if attention.read is Read.METHOD else _by_option)(attention, tell)


def _by_method(attention: LayerAttention, tell: Tell) -> Callable[[], None]:
    module, own = attention.module, getattr(attention.module, SCALED_DOT_PRODUCT)

    def told(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
        mask = args[0] if args else kwargs.get("attn_mask")
        tell(attention.layer, lambda rows: weighted_rows(query, key, mask, query.shape[-1] ** -0.5, rows))
        return own(query, key, value, *args, **kwargs)

    module.__dict__[SCALED_DOT_PRODUCT] = told
    return lambda: module.__dict__.pop(SCALED_DOT_PRODUCT)


def _by_option(attention: LayerAttention, tell: Tell) -> Callable[[], None]:
    def ask(_: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        return args, kwargs | {"output_attentions": True}

    def answered(module: nn.Module, _: tuple, output: Any) -> tuple:
        places = [n for n, part in enumerate(output) if isinstance(part, Tensor) and part.dim() == 4]
        if not isinstance(output, tuple) or not places:
            raise CalibrationError(
                f"{type(module).__name__} in layer {attention.layer} gives no attention weights; load the model with "
                "attn_implementation='eager', or choose the signals duplication or diversity."
            )
        mean = output[places[0]].float().mean(dim=1)
        tell(attention.layer, lambda rows: torch.einsum("sbi,bij->sbj", rows.to(mean.dtype), mean))
        return tuple(None if n == places[0] else part for n, part in enumerate(output))

    hooks = (
        attention.module.register_forward_pre_hook(ask, with_kwargs=True),
        attention.module.register_forward_hook(answered),
    )
    return lambda: [hook.remove() for hook in hooks]
