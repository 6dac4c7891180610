"""Expert banks: where the routed experts of a model are, and one way to read and write their matrices.

A bank is found by its structure, never by the family's name: a module whose own parameters include a 3-D
`down_proj` beside a 3-D `gate_up_proj` or `up_proj`. How it stores them is told by the flags that transformers'
`use_experts_implementation` puts on it:

| flag | storage |
|---|---|
| `is_transposed` | `[E, in, out]` instead of `[E, out, in]` |
| `is_concatenated` | rows gate then up; otherwise gate and up rows take turns |
| `has_gate` | `gate_up_proj`; otherwise `up_proj` alone |
| `has_bias` | `gate_up_proj_bias` (or `up_proj_bias`) and `down_proj_bias`, `[E, out]` |
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import nn

from mode_core.models.errors import ModelError

PROJECTIONS = ("gate", "up", "down")
FLAGS = ("is_transposed", "is_concatenated", "has_bias", "has_gate")
TOP_K_NAMES = ("num_experts_per_tok", "num_experts_per_token", "moe_top_k", "moe_k", "moe_topk", "top_k_experts")


@dataclass(frozen=True)
class ExpertBank:
    """One set of routed experts: `gate [I, H]`, `up [I, H]`, `down [H, I]` per expert, whatever the storage.

    `name` is the full module name (`model.language_model.layers.3.mlp.experts`), `layer` the decoder layer,
    `top_k` the experts chosen per token. What `stacked`, `matrix` and `fused` return are views that share memory
    with the model, so writing into them writes the model.
    """

    name: str
    layer: int
    module: nn.Module
    experts: int
    hidden: int
    intermediate: int
    top_k: int
    has_gate: bool = True

    @property
    def projections(self) -> tuple[str, ...]:
        """The matrices each expert has: gate, up, down, or up, down."""
        return PROJECTIONS if self.has_gate else PROJECTIONS[1:]

    def matrix(self, projection: str, expert: int) -> torch.Tensor:
        """One expert's matrix, `[out, in]`, as a view into the model."""
        return self.stacked(projection)[expert]

    def stacked(self, projection: str) -> torch.Tensor:
        """All experts' matrices of one projection, `[E, out, in]`, as a view into the model."""
        if projection not in self.projections:
            raise KeyError(f"Bank {self.name} has the matrices {', '.join(self.projections)}; not {projection!r}.")
        if projection == "down" or not self.has_gate:
            return self.fused("down" if projection == "down" else "up")
        both = self.fused("up")
        if getattr(self.module, "is_concatenated", True):
            return both[:, : self.intermediate] if projection == "gate" else both[:, self.intermediate :]
        return both[:, 0::2] if projection == "gate" else both[:, 1::2]

    def fused(self, side: str) -> torch.Tensor:
        """What goes into the experts (side `up`: `[E, 2I or I, H]`, rows in the family's own order) or out of
        them (side `down`: `[E, H, I]`), as a view into the model."""
        name = "down_proj" if side == "down" else "gate_up_proj" if self.has_gate else "up_proj"
        stored = getattr(self.module, name).detach()
        return stored.mT if getattr(self.module, "is_transposed", False) else stored

    def bias(self, side: str, expert: int) -> torch.Tensor | None:
        """The bias that belongs to `fused(side)[expert]`, `[out]`; None where the family has none."""
        if not getattr(self.module, "has_bias", False):
            return None
        name = "down_proj_bias" if side == "down" else "gate_up_proj_bias" if self.has_gate else "up_proj_bias"
        return getattr(self.module, name).detach()[expert]

    def expert_forward(
        self, states: torch.Tensor, fused_up: torch.Tensor, down: torch.Tensor, expert: int | None = None
    ) -> torch.Tensor:
        """Output of one expert with the given matrices, unweighted by the router: `[n, H]` → `[…, n, H]`.

        `fused_up` `[…, 2I or I, H]` has its rows in the order of `fused("up")`, `down` is `[…, H, I]`; leading axes
        (say, several bit-widths of the same expert) are computed in one go. `expert` names whose biases to add in
        the families that have them.
        """
        if getattr(self.module, "has_bias", False) and expert is None:
            raise ValueError(f"The experts of {self.name} have biases; name the expert.")
        output = self._linear(self.inner(states, fused_up, expert), down, "down", expert)
        return self.module.post_expert_norm(output) if getattr(self.module, "has_post_expert_norm", False) else output

    def inner(self, states: torch.Tensor, fused_up: torch.Tensor, expert: int | None = None) -> torch.Tensor:
        """What enters one expert's `down`: `[n, H]` → `[…, n, I]`; arguments as in `expert_forward`."""
        inner = self._linear(states, fused_up, "up", expert)
        return self.module._apply_gate(inner) if self.has_gate else self.module.act_fn(inner)

    def _linear(self, states: torch.Tensor, weights: torch.Tensor, side: str, expert: int | None) -> torch.Tensor:
        product = torch.matmul(states, weights.mT)
        bias = None if expert is None else self.bias(side, expert)
        return product if bias is None else product + bias.to(product.dtype)


def find_banks(model: nn.Module) -> dict[str, ExpertBank]:
    """All expert banks of a model by full module name, in the order of the layers.

    Raises:
        ModelError: there is none, or one is stored in a way that cannot be read; the text says what was found.
    """
    found = [_read_bank(model, name, module) for name, module in model.named_modules() if _is_fused(module)]
    if not found:
        lists = [name for name, module in model.named_modules() if _looks_like_experts(name, module)]
        raise ModelError(
            f"{type(model).__name__} has no bank of routed experts: no module holds a 3-D 'down_proj' beside "
            f"'gate_up_proj' or 'up_proj'. Modules called 'experts': {', '.join(lists[:3]) or 'none'}. "
            "Choose a Mixture-of-Experts model."
        )
    return {bank.name: bank for bank in sorted(found, key=lambda bank: bank.layer)}


def _is_fused(module: nn.Module) -> bool:
    own = module._parameters
    down = own.get("down_proj")
    up = own.get("gate_up_proj") if "gate_up_proj" in own else own.get("up_proj")
    return down is not None and up is not None and down.dim() == 3 and up.dim() == 3


def _looks_like_experts(name: str, module: nn.Module) -> bool:
    return name.rsplit(".", 1)[-1] == "experts" and (isinstance(module, nn.ModuleList) or bool(module._parameters))


def _read_bank(model: nn.Module, name: str, module: nn.Module) -> ExpertBank:
    if missing := [flag for flag in FLAGS if not hasattr(module, flag)]:
        raise ModelError(
            f"{name} ({type(module).__name__}) holds fused experts, but does not say how they are stored (no "
            f"{', '.join(missing)}); its family does not use transformers' experts interface and is not read yet."
        )
    experts, rows, columns = module.down_proj.shape
    hidden, intermediate = (columns, rows) if module.is_transposed else (rows, columns)
    return ExpertBank(
        name, _layer_number(name), module, experts, hidden, intermediate, _top_k(model, name, module), module.has_gate
    )


def _layer_number(name: str) -> int:
    numbers = re.findall(r"\.(\d+)(?=\.|$)", name)
    if not numbers:
        raise ModelError(f"The module name {name} tells no layer number; 'layers.<n>' was looked for.")
    return int(numbers[0])


def _top_k(model: nn.Module, name: str, module: nn.Module) -> int:
    """Experts per token: from the block that holds the bank, else from the configuration."""
    block = model.get_submodule(name.rpartition(".")[0])
    for holder in (block, *block.children()):
        if isinstance(getattr(holder, "top_k", None), int):
            return holder.top_k
    config = getattr(module, "config", None)
    for key in TOP_K_NAMES:
        if isinstance(value := getattr(config, key, None), int):
            return value
    raise ModelError(
        f"Nothing says how many experts {name} uses per token; looked for top_k, {', '.join(TOP_K_NAMES)}."
    )
