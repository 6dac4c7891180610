"""Expert banks: where the routed experts of a model are, and one way to read and write their matrices.

A bank is found by its structure, never by the family's name: a module whose own parameters include a 3-D
`down_proj` is a fused bank; a ModuleList of MLPs is a list bank (added with the families that need it).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

PROJECTIONS = ("gate", "up", "down")


@dataclass(frozen=True)
class ExpertBank:
    """One set of routed experts: `gate [I, H]`, `up [I, H]`, `down [H, I]` per expert, whatever the storage.

    `name` is the full module name (`model.language_model.layers.3.mlp.experts`), `layer` the decoder layer,
    `top_k` the experts chosen per token. Views returned by `matrix` share memory with the model wherever the
    storage allows it, so writing into them writes the model.
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
        module = self.module
        if projection == "down":
            return module.down_proj.detach()
        if not self.has_gate:
            return module.up_proj.detach()
        fused = module.gate_up_proj.detach()
        return fused[:, : self.intermediate] if projection == "gate" else fused[:, self.intermediate :]

    def expert_forward(self, states: torch.Tensor, gate_up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
        """Output of one expert with the given matrices: `[n, H]` → `[n, H]`, unweighted by the router."""
        inner = nn.functional.linear(states, gate_up)
        inner = self.module._apply_gate(inner) if self.has_gate else self.module.act_fn(inner)
        return nn.functional.linear(inner, down)
