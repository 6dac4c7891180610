"""How a family stores the matrices of its experts, behind one way to read and write them.

Two kinds: fused (one 3-D parameter per side, all experts in it) and listed (a `ModuleList` with one MLP per expert).
A matrix is always handed out as a view `[out, in]` into the model's own parameter, so writing into it writes the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

# Names that families give the three matrices of an expert in a ModuleList: gate, up, down.
LISTED_NAMES = (("gate_proj", "up_proj", "down_proj"), ("w1", "w3", "w2"))
ACTIVATIONS = ("act_fn", "activation_fn", "act")


class Storage(Protocol):
    """What an `ExpertBank` asks of its storage; shapes as there."""

    experts: int
    hidden: int
    intermediate: int
    has_gate: bool

    def matrix(self, projection: str, expert: int) -> Tensor: ...

    def stacked(self, projection: str) -> Tensor: ...

    def fused(self, side: str) -> Tensor: ...

    def rows(self, projection: str) -> slice: ...

    def bias(self, side: str, expert: int) -> Tensor | None: ...

    def activate(self, product: Tensor) -> Tensor: ...

    def finish(self, output: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class FusedStorage:
    """3-D parameters `gate_up_proj` (or `up_proj`) and `down_proj` on one module.

    `transposed`: `[E, in, out]` instead of `[E, out, in]`. `interleaved`: gate and up rows take turns; otherwise all
    gate rows come first. `has_bias`: `<name>_bias` `[E, out]` beside each.
    """

    module: nn.Module
    transposed: bool
    interleaved: bool
    has_gate: bool
    has_bias: bool

    def parameter_name(self, side: str) -> str:
        """What the module calls the fused parameter of a side."""
        return "down_proj" if side == "down" else "gate_up_proj" if self.has_gate else "up_proj"

    @property
    def experts(self) -> int:
        return self.module.down_proj.shape[0]

    @property
    def hidden(self) -> int:
        return self.module.down_proj.shape[2 if self.transposed else 1]

    @property
    def intermediate(self) -> int:
        return self.module.down_proj.shape[1 if self.transposed else 2]

    def fused(self, side: str) -> Tensor:
        """View `[E, 2I or I, H]` (side `up`) or `[E, H, I]` (side `down`)."""
        stored = getattr(self.module, self.parameter_name(side)).detach()
        return stored.mT if self.transposed else stored

    def rows(self, projection: str) -> slice:
        """Which rows of its side's fused matrix a projection has."""
        if projection == "down" or not self.has_gate:
            return slice(None)
        if self.interleaved:
            return slice(0 if projection == "gate" else 1, None, 2)
        return slice(0, self.intermediate) if projection == "gate" else slice(self.intermediate, None)

    def stacked(self, projection: str) -> Tensor:
        """View `[E, out, in]`."""
        return self.fused("down" if projection == "down" else "up")[:, self.rows(projection)]

    def matrix(self, projection: str, expert: int) -> Tensor:
        """View `[out, in]`."""
        return self.stacked(projection)[expert]

    def bias(self, side: str, expert: int) -> Tensor | None:
        """Bias of one expert's fused side, `[out]`; None where there is none."""
        return getattr(self.module, f"{self.parameter_name(side)}_bias").detach()[expert] if self.has_bias else None

    def activate(self, product: Tensor) -> Tensor:
        """Gate and activation, as the family does it: `[…, 2I or I]` → `[…, I]`."""
        if not self.has_gate:
            return activation(self.module)(product)
        if hasattr(self.module, "_apply_gate"):
            return self.module._apply_gate(product)
        return activation(self.module)(product[..., self.rows("gate")]) * product[..., self.rows("up")]

    def finish(self, output: Tensor) -> Tensor:
        """A norm behind every expert, in the families that have one."""
        return self.module.post_expert_norm(output) if getattr(self.module, "has_post_expert_norm", False) else output


@dataclass(frozen=True)
class ListedStorage:
    """A `ModuleList` of MLPs, each with linear layers under the names `names` (gate or None, up, down).

    A single matrix is a view; `stacked` and `fused` of many are copies here, made anew at every call.
    """

    modules: nn.ModuleList
    names: tuple[str | None, str, str]

    @property
    def experts(self) -> int:
        return len(self.modules)

    @property
    def hidden(self) -> int:
        return self.linear("down", 0).weight.shape[0]

    @property
    def intermediate(self) -> int:
        return self.linear("down", 0).weight.shape[1]

    @property
    def has_gate(self) -> bool:
        return self.names[0] is not None

    def linear(self, projection: str, expert: int) -> nn.Linear:
        """The layer that holds one matrix."""
        return getattr(self.modules[expert], self.names[("gate", "up", "down").index(projection)])

    def matrix(self, projection: str, expert: int) -> Tensor:
        """View `[out, in]`."""
        return self.linear(projection, expert).weight.detach()

    def stacked(self, projection: str) -> Tensor:
        """Copy `[E, out, in]`."""
        return torch.stack([self.matrix(projection, expert) for expert in range(self.experts)])

    def fused(self, side: str) -> Tensor:
        """Copy `[E, 2I or I, H]` (side `up`, gate rows first) or `[E, H, I]` (side `down`)."""
        if side == "down" or not self.has_gate:
            return self.stacked(side)
        return torch.cat([self.stacked("gate"), self.stacked("up")], dim=1)

    def rows(self, projection: str) -> slice:
        """Which rows of its side's fused matrix a projection has."""
        if projection == "down" or not self.has_gate:
            return slice(None)
        return slice(0, self.intermediate) if projection == "gate" else slice(self.intermediate, None)

    def bias(self, side: str, expert: int) -> Tensor | None:
        """Bias of one expert's fused side, `[out]`; None where there is none."""
        names = ("down",) if side == "down" else ("gate", "up") if self.has_gate else ("up",)
        biases = [self.linear(name, expert).bias for name in names]
        if any(part is None for part in biases):
            return None
        return biases[0].detach() if len(biases) == 1 else torch.cat([part.detach() for part in biases])

    @property
    def has_bias(self) -> bool:
        """True where the experts' linear layers add one."""
        return self.linear("down", 0).bias is not None

    def activate(self, product: Tensor) -> Tensor:
        """Activation of the gate, times up: `[…, 2I or I]` → `[…, I]`."""
        act = activation(self.modules[0])
        return act(product[..., self.rows("gate")]) * product[..., self.rows("up")] if self.has_gate else act(product)

    def finish(self, output: Tensor) -> Tensor:
        """Nothing comes after an expert's `down`."""
        return output


def activation(module: nn.Module) -> nn.Module:
    """The activation function of an experts module or of one expert."""
    return next(getattr(module, name) for name in ACTIVATIONS if hasattr(module, name))


def listed_names(experts: nn.ModuleList) -> tuple[str | None, str, str] | None:
    """The names of gate, up and down in a list of equal MLPs; None where it is no such list."""
    for gate, up, down in (*LISTED_NAMES, *((None, up, down) for _, up, down in LISTED_NAMES)):
        needed = [name for name in (gate, up, down) if name]
        shapes = {tuple(_shape(expert, name) for name in needed) for expert in experts}
        if len(shapes) == 1 and None not in next(iter(shapes)) and any(hasattr(experts[0], a) for a in ACTIVATIONS):
            return (gate, up, down)
    return None


def _shape(expert: nn.Module, name: str) -> torch.Size | None:
    weight = getattr(getattr(expert, name, None), "weight", None)
    return weight.shape if isinstance(weight, Tensor) and weight.dim() == 2 else None
