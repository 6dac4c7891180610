"""What surrounds the routed experts: attention and shared experts, which may have a width of their own, and the rest.

Routers, embeddings, norms, dense layers and the vision tower are never quantized; they are counted as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from mode_core.quantization.sizes import VISION_BRIDGES, VISION_PARTS, matrix_bytes
from mode_core.quantization.widths import GROUP_SIZE, UNTOUCHED

if TYPE_CHECKING:
    from mode_core.models import LoadedModel

SHARED_NAMES = ("shared_expert", "shared_experts", "share_expert", "shared_mlp")


def rest_linears(model: nn.Module) -> Iterator[tuple[str, nn.Linear, str]]:
    """Linear layers that may have a width of their own: (module name, layer, "attention" or "shared").

    Told by name: a step of the path that holds "attn" or "attention", or is one of `SHARED_NAMES`; nothing inside the
    vision tower or the bridge from it. A shared expert's own gate (one output per token) is a router, and left out.
    A weight that several layers share comes once.
    """
    seen: set[int] = set()
    for name, module in model.named_modules():
        if type(module) is not nn.Linear or id(module.weight) in seen:
            continue
        steps = name.lower().split(".")
        if any(step in VISION_PARTS or step in VISION_BRIDGES for step in steps):
            continue
        part = _part(steps[:-1])
        if part is not None and "router" not in steps[-1] and not steps[-1].endswith("expert_gate"):
            seen.add(id(module.weight))
            yield name, module, part


def _part(holders: list[str]) -> str | None:
    if any(step in SHARED_NAMES for step in holders):
        return "shared"
    return "attention" if any("attn" in step or "attention" in step for step in holders) else None


def rest_bytes(
    model: LoadedModel | str | Path | Any,
    attention_bits: int | None = None,
    shared_bits: int | None = None,
    group_size: int = GROUP_SIZE,
    symmetric: bool = True,
    method: str = "rtn",
    trust_remote_code: bool = False,
) -> int:
    """Bytes of a model without its routed experts' matrices, attention and shared experts at their own widths.

    `model` is a `LoadedModel`, a folder or a configuration of transformers (no weights are read: see `outline`;
    `trust_remote_code` as there). None and 16 leave a part as it is. Together with `expert_bytes` of every expert this
    is the whole model; parameters that are tied count once.

    Raises:
        ModelError: no model, or one without expert banks.
        ValueError: a width that is not offered.
    """
    network, banks = _network(model, trust_remote_code)
    routed = sum(
        bank.experts * len(bank.projections) * bank.hidden * bank.intermediate * bank.matrix("down", 0).element_size()
        for bank in banks.values()
    )
    total = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters()) - routed
    widths = {"attention": attention_bits, "shared": shared_bits}
    for _, linear, part in rest_linears(network):
        if widths[part] not in (None, UNTOUCHED):
            rows, columns = linear.weight.shape
            total -= linear.weight.numel() * linear.weight.element_size()
            total += matrix_bytes(rows, columns, widths[part], group_size, symmetric, method)
    return total


def _network(model: LoadedModel | str | Path | Any, trust_remote_code: bool) -> tuple[nn.Module, dict]:
    if hasattr(model, "banks"):
        return model.model, model.banks
    from mode_core.models import find_banks
    from mode_core.models.outline import built, outline

    folder = isinstance(model, str | Path)
    network = outline(model, trust_remote_code) if folder else built("The model", model, trust_remote_code)
    return network, find_banks(network)
