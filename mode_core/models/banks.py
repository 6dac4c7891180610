"""Expert banks: the routed experts of one layer, and one way to read and write their matrices.

Where they are found is told in `finding`, how they are stored in `storage`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import torch
from torch import nn

from mode_core.models.storage import FusedStorage, Storage

PROJECTIONS = ("gate", "up", "down")


class Reached(StrEnum):
    """How a model calls its experts, which decides how they are observed.

    `interface`: through transformers' experts interface. `call`: the module is called with states, expert ids and
    weights, past the interface. `list`: a block calls one MLP after the other. `scaled_input`: all experts compute all
    tokens at once, each token multiplied by its routing weight before (Llama 4).
    """

    INTERFACE = "interface"
    CALL = "call"
    LIST = "list"
    SCALED_INPUT = "scaled_input"


@dataclass(frozen=True)
class ExpertBank:
    """One set of routed experts: `gate [I, H]`, `up [I, H]`, `down [H, I]` per expert, whatever the storage.

    `name` is the full module name (`model.language_model.layers.3.mlp.experts`), `layer` the decoder layer,
    `top_k` the experts chosen per token. `matrix` is always a view that shares memory with the model, so writing into
    it writes the model. `stacked` and `fused` are views where the family fuses its experts, and copies where each
    expert is a module of its own.
    """

    name: str
    layer: int
    module: nn.Module
    experts: int
    hidden: int
    intermediate: int
    top_k: int
    has_gate: bool = True
    storage: Storage = field(kw_only=True)
    reached: Reached = field(default=Reached.INTERFACE, kw_only=True)

    @property
    def projections(self) -> tuple[str, ...]:
        """The matrices each expert has: gate, up, down, or up, down."""
        return PROJECTIONS if self.has_gate else PROJECTIONS[1:]

    @property
    def fused_in_model(self) -> bool:
        """True where `stacked` and `fused` are views into the model."""
        return isinstance(self.storage, FusedStorage)

    @property
    def dtype(self) -> torch.dtype:
        """The type of the experts' weights."""
        return self.storage.matrix("down", 0).dtype

    @property
    def device(self) -> torch.device:
        """Where the experts' weights are; `meta` while they are offloaded."""
        return self.storage.matrix("down", 0).device

    def matrix(self, projection: str, expert: int) -> torch.Tensor:
        """One expert's matrix, `[out, in]`, always a view into the model."""
        return self.storage.matrix(self._known(projection), expert)

    def stacked(self, projection: str) -> torch.Tensor:
        """All experts' matrices of one projection, `[E, out, in]`; see the head about views."""
        return self.storage.stacked(self._known(projection))

    def fused(self, side: str) -> torch.Tensor:
        """What goes into the experts (side `up`: `[E, 2I or I, H]`, rows in the family's own order, see `rows`) or
        out of them (side `down`: `[E, H, I]`); see the head about views."""
        return self.storage.fused(side)

    def fused_one(self, side: str, expert: int) -> torch.Tensor:
        """One expert's part of `fused(side)`, `[2I or I, H]` or `[H, I]`; copies at most that."""
        if self.fused_in_model or side == "down":
            return self.fused(side)[expert] if self.fused_in_model else self.matrix("down", expert)
        return torch.cat([self.matrix(name, expert) for name in self.projections[:-1]])

    def rows(self, projection: str) -> slice:
        """Which rows of its side's fused matrix belong to a projection."""
        return self.storage.rows(self._known(projection))

    def bias(self, side: str, expert: int) -> torch.Tensor | None:
        """The bias that belongs to `fused(side)[expert]`, `[out]`; None where the family has none."""
        return self.storage.bias(side, expert)

    def _known(self, projection: str) -> str:
        if projection not in self.projections:
            raise KeyError(f"Bank {self.name} has the matrices {', '.join(self.projections)}; not {projection!r}.")
        return projection

    def expert_forward(
        self, states: torch.Tensor, fused_up: torch.Tensor, down: torch.Tensor, expert: int | None = None
    ) -> torch.Tensor:
        """Output of one expert with the given matrices, unweighted by the router: `[n, H]` → `[…, n, H]`.

        `fused_up` `[…, 2I or I, H]` has its rows in the order of `fused("up")`, `down` is `[…, H, I]`; leading axes
        (say, several bit-widths of the same expert) are computed in one go. `expert` names whose biases to add in
        the families that have them.
        """
        if self.storage.has_bias and expert is None:
            raise ValueError(f"The experts of {self.name} have biases; name the expert.")
        return self.storage.finish(self._linear(self.inner(states, fused_up, expert), down, "down", expert))

    def inner(self, states: torch.Tensor, fused_up: torch.Tensor, expert: int | None = None) -> torch.Tensor:
        """What enters one expert's `down`: `[n, H]` → `[…, n, I]`; arguments as in `expert_forward`."""
        return self.storage.activate(self._linear(states, fused_up, "up", expert))

    def own_forward(self, states: torch.Tensor, expert: int) -> torch.Tensor:
        """Output of one expert with its own matrices, unweighted by the router: `[n, H]` → `[n, H]`."""
        return self.expert_forward(states, self.fused_one("up", expert), self.matrix("down", expert), expert)

    def entering(self, states: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """What enters the experts of routed tokens: states `[S, H]` and their routing weights `[S]` → `[S, H]`.

        The states themselves, but in the families that multiply them by the routing weight first (Llama 4).
        """
        return states * weights[:, None].to(states.dtype) if self.reached is Reached.SCALED_INPUT else states

    def leaving(self, weights: torch.Tensor) -> torch.Tensor:
        """What an expert's output is multiplied by: the routing weights, or 1 where these went in already."""
        return torch.ones_like(weights) if self.reached is Reached.SCALED_INPUT else weights

    def _linear(self, states: torch.Tensor, weights: torch.Tensor, side: str, expert: int | None) -> torch.Tensor:
        product = torch.matmul(states, weights.mT)
        bias = None if expert is None else self.bias(side, expert)
        return product if bias is None else product + bias.to(product.dtype)
