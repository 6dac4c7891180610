"""Finds the expert banks of a model by their structure, never by the family's name.

Looked for: a module whose own parameters include a 3-D `down_proj` beside a 3-D `gate_up_proj` or `up_proj`; or a
`ModuleList` of equal MLPs beside a router. How a fused bank stores its experts is told by the flags that transformers'
`use_experts_implementation` puts on it, and by the shapes where a family does not use that:

| flag | storage |
|---|---|
| `is_transposed` | `[E, in, out]` instead of `[E, out, in]` |
| `is_concatenated` | rows gate then up; otherwise gate and up rows take turns |
| `has_gate` | `gate_up_proj`; otherwise `up_proj` alone |
| `has_bias` | `gate_up_proj_bias` (or `up_proj_bias`) and `down_proj_bias`, `[E, out]` |
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

from torch import nn

from mode_core.models.banks import ExpertBank, Reached
from mode_core.models.errors import ModelError
from mode_core.models.storage import FusedStorage, ListedStorage, Storage, listed_names

FLAGS = ("is_transposed", "is_concatenated", "has_bias", "has_gate")
ROUTERS = ("gate", "router")  # what families call the module that chooses the experts
TOP_K_NAMES = (
    "top_k",
    "num_experts_per_tok",
    "num_experts_per_token",
    "moe_top_k",
    "moe_k",
    "moe_topk",
    "top_k_experts",
)
SENSES = ("vision_config", "audio_config")  # configurations of what looks and listens
SMALLEST_FLOAT = 2  # bytes; experts stored in less are quantized already


def find_banks(model: nn.Module) -> dict[str, ExpertBank]:
    """All expert banks of a model by full module name, in the order of the layers.

    Raises:
        ModelError: there is none, or one is stored in a way that cannot be read; the text says what was found.
    """
    senses = _other_senses(model)
    inside = [(name, module) for name, module in model.named_modules() if not name.startswith(senses)]
    banks = [bank for name, module in inside if (bank := _read_bank(model, name, module))]
    if not banks:
        seen = [_described(name, module) for name, module in model.named_modules() if name.endswith("experts")]
        raise ModelError(
            f"{type(model).__name__} has no bank of routed experts. Looked for: a module with a 3-D 'down_proj' beside "
            "'gate_up_proj' or 'up_proj', or a ModuleList of MLPs (gate_proj, up_proj, down_proj or w1, w3, w2) beside "
            f"a {' or '.join(map(repr, ROUTERS))}. Modules called 'experts': {', '.join(seen[:3]) or 'none'}. "
            "Choose a Mixture-of-Experts model."
        )
    return {bank.name: bank for bank in sorted(banks, key=lambda bank: bank.layer)}


def _other_senses(model: nn.Module) -> tuple[str, ...]:
    """Where the parts that look and listen lie: their experts (dots3's) see patches, not the tokens of a sample."""
    whole = getattr(model, "config", None)
    kinds = {type(part) for key in SENSES if (part := getattr(whole, key, None)) is not None}
    return tuple(
        f"{name}." for name, part in model.named_modules() if name and type(getattr(part, "config", 0)) in kinds
    )


def _read_bank(model: nn.Module, name: str, module: nn.Module) -> ExpertBank | None:
    if _is_fused(name, module):
        storage, reached = _fused(name, module)
    elif names := _listed(model, name, module):
        storage, reached = ListedStorage(module, names), Reached.LIST
    else:
        return None
    weight = storage.matrix("down", 0)
    if not weight.is_floating_point() or weight.element_size() < SMALLEST_FLOAT:
        raise ModelError(f"The experts {name} are quantized already ({weight.dtype}); load the original weights.")
    shape = (storage.experts, storage.hidden, storage.intermediate, _top_k(model, name, module), storage.has_gate)
    return ExpertBank(name, _layer_number(name), module, *shape, storage=storage, reached=reached)


def _is_fused(name: str, module: nn.Module) -> bool:
    """Shared experts in one module (Inkling's) are no bank: no router chooses among them."""
    own = module._parameters if not name.rpartition(".")[2].startswith("shared") else {}
    down = own.get("down_proj")
    up = own.get("gate_up_proj") if "gate_up_proj" in own else own.get("up_proj")
    return down is not None and up is not None and down.dim() == 3 and up.dim() == 3


def _fused(name: str, module: nn.Module) -> tuple[Storage, Reached]:
    if all(hasattr(module, flag) for flag in FLAGS):
        flags = (module.is_transposed, not module.is_concatenated, module.has_gate, module.has_bias)
        return FusedStorage(module, *flags), Reached.INTERFACE
    has_gate = "gate_up_proj" in module._parameters
    into = module._parameters["gate_up_proj" if has_gate else "up_proj"].shape[1:]
    down, fold = module.down_proj.shape[1:], 2 if has_gate else 1
    straight, transposed = into == (fold * down[1], down[0]), into == (down[1], fold * down[0])
    if straight == transposed or any(key.endswith("_bias") for key in module._parameters):
        raise ModelError(
            f"{name} ({type(module).__name__}) holds fused experts, but neither flags ({', '.join(FLAGS)}) nor shapes "
            f"tell how they are stored (into {tuple(into)}, down {tuple(down)}); this family is not read yet."
        )
    return FusedStorage(module, transposed, False, has_gate, False), _called(name, module)


def _called(name: str, module: nn.Module) -> Reached:
    """How a module of fused experts past transformers' interface is called."""
    parameters = list(inspect.signature(inspect.unwrap(type(module).forward)).parameters)[1:]
    if len(parameters) >= 3:
        return Reached.CALL
    if len(parameters) == 1:
        return Reached.SCALED_INPUT
    raise ModelError(
        f"{name} ({type(module).__name__}) is called with ({', '.join(parameters)}); looked for (states, expert ids, "
        "weights) or (states) alone. This family is not read yet."
    )


def _listed(model: nn.Module, name: str, module: nn.Module) -> tuple[str | None, str, str] | None:
    if not isinstance(module, nn.ModuleList) or len(module) < 2 or "." not in name:
        return None
    block = model.get_submodule(name.rpartition(".")[0])
    return listed_names(module) if any(hasattr(block, router) for router in ROUTERS) else None


def _described(name: str, module: nn.Module) -> str:
    inside = type(module[0]).__name__ if isinstance(module, nn.ModuleList) and len(module) else None
    return f"{name} ({type(module).__name__}{f' of {inside}' if inside else ''})"


def layer_prefix(name: str) -> tuple[str, int]:
    """A bank's name → the name of the list of decoder layers that it lies in, and its place there.

    Raises:
        ModelError: the name holds no number.
    """
    found = re.match(r"(.*?)\.(\d+)(?:\.|$)", name)
    if not found:
        raise ModelError(f"The module name {name} tells no layer number; 'layers.<n>' was looked for.")
    return found[1], int(found[2])


def _layer_number(name: str) -> int:
    return layer_prefix(name)[1]


def _top_k(model: nn.Module, name: str, module: nn.Module) -> int:
    """Experts per token: from the block that holds the bank, else from a configuration."""
    block = model.get_submodule(name.rpartition(".")[0])
    for holder in _holders(block, module):
        for key in TOP_K_NAMES:
            if isinstance(value := getattr(holder, key, None), int):
                return value
    raise ModelError(f"Nothing says how many experts {name} uses per token; looked for {', '.join(TOP_K_NAMES)}.")


def _holders(block: nn.Module, module: nn.Module) -> Iterator[object]:
    modules = (block, *block.children(), module)
    yield from modules
    yield from (part.config for part in modules if hasattr(part, "config"))
