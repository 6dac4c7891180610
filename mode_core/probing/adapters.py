"""Watches experts of families that call them past transformers' interface.

Three layouts (`mode_core.models.Reached`): a fused module called with (states, ids, weights); a block that runs a
`ModuleList` of MLPs one after the other; a block whose experts all compute all tokens, scaled by their weights before
(Llama 4). What the block's router chose is read from the router's own output. Since nothing but names says that it was
understood rightly, the first batch is checked: on a few tokens, the weighted sum of the chosen experts must be what the
bank gave.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mode_core.errors import CalibrationError
from mode_core.models import ExpertBank, Reached
from mode_core.models.bank_search import ROUTERS
from mode_core.models.offloading import in_memory

CHECKED = 8  # tokens of the first batch on which a bank's reading is checked
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}  # relative; coarser types:
COARSE = 5e-2


@dataclass(frozen=True)
class Routed:
    """What one bank did in one batch: states `[n, H]`, experts and weights `[n, k]`, output `[n, H]`.

    `source` is the tensor of the model's own pass that holds the output (`[n, H]` in some shape), for gradients.
    """

    states: Tensor
    experts: Tensor
    weights: Tensor
    output: Tensor
    source: Tensor


Tell = Callable[[ExpertBank, Routed], None]


def watch_bank(bank: ExpertBank, model: nn.Module, tell: Tell) -> Callable[[], None]:
    """Make a bank past the interface tell what it did in every pass; returns what undoes that.

    Raises:
        CalibrationError: the block that holds the bank has no router under a known name.
    """
    watcher = (_CallWatcher if bank.reached is Reached.CALL else _BlockWatcher)(bank, model, tell)
    hooks = watcher.hooks()
    return lambda: [hook.remove() for hook in hooks]


@dataclass
class _CallWatcher:
    bank: ExpertBank
    model: nn.Module
    tell: Tell
    checked: bool = False

    def hooks(self) -> list:
        return [self.bank.module.register_forward_hook(self._done, with_kwargs=True)]

    def _done(self, module: nn.Module, args: tuple, kwargs: dict, output: Tensor) -> None:
        bound = inspect.signature(inspect.unwrap(type(module).forward)).bind(module, *args, **kwargs)
        states, experts, weights = list(bound.arguments.values())[1:4]
        found = Routed(states, experts, weights, output, output)
        self.checked = self.checked or _checked(self.bank, [found])
        self.tell(self.bank, found)


@dataclass
class _BlockWatcher:
    """A block with a router, experts, and perhaps shared experts whose outputs are added."""

    bank: ExpertBank
    model: nn.Module
    tell: Tell
    reading: int | None = None  # which reading of the router's output proved right
    noted: dict[str, Any] = field(default_factory=dict)

    def hooks(self) -> list:
        block = self.model.get_submodule(self.bank.name.rpartition(".")[0])
        router = next((getattr(block, name) for name in ROUTERS if hasattr(block, name)), None)
        if router is None:
            raise CalibrationError(
                f"{type(block).__name__}, which holds {self.bank.name}, has no {' or '.join(map(repr, ROUTERS))}; "
                f"found: {', '.join(name for name, _ in block.named_children())}. This family is not read yet."
            )
        shared = [module for name, module in block.named_children() if "shared" in name]
        return [
            router.register_forward_hook(self._chosen, with_kwargs=True),
            *(module.register_forward_hook(self._shared) for module in shared),
            *([self.bank.module.register_forward_hook(self._all)] if self._scaled else []),
            block.register_forward_hook(self._done),
        ]

    @property
    def _scaled(self) -> bool:
        return self.bank.reached is Reached.SCALED_INPUT

    def _chosen(self, _: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        states = args[0] if args else next(iter(kwargs.values()))
        self.noted = {"states": states.reshape(-1, self.bank.hidden), "router": output, "shared": []}

    def _shared(self, _module: nn.Module, _args: tuple, output: Tensor) -> None:
        self.noted["shared"].append(output)

    def _all(self, _module: nn.Module, _args: tuple, output: Tensor) -> None:
        self.noted["output"] = output.reshape(self.bank.experts, -1, self.bank.hidden).sum(dim=0)

    def _done(self, _module: nn.Module, _args: tuple, output: Any) -> None:
        source = output if isinstance(output, Tensor) else next(part for part in output if isinstance(part, Tensor))
        if torch.is_grad_enabled() and not source.requires_grad:
            source.requires_grad_(True)
        given, width = self.noted.get("output"), self.bank.hidden
        if given is None:
            given = source.detach().reshape(-1, width)
            for part in self.noted["shared"]:
                given = given - part.detach().reshape(-1, width)
        choices = _choices(self.noted["router"], self.bank)
        found = [Routed(self.noted["states"], *choice, given, source) for choice in choices]
        self.noted = {}
        if self.reading is None:
            self.reading = _checked(self.bank, found) - 1
        self.tell(self.bank, found[self.reading])


def _choices(output: Any, bank: ExpertBank) -> list[tuple[Tensor, Tensor]]:
    """Possible readings of a router's output: (experts, weights) `[T, k]` each.

    Ids and weights where it gives them; else from scores of all experts: as they are, their softmax, sigmoid, or
    either of these shared out to sum 1.
    """
    parts = [t for t in (output if isinstance(output, tuple | list) else (output,)) if isinstance(t, Tensor)]
    ids = [t.reshape(-1, bank.top_k) for t in parts if not t.is_floating_point() and t.shape[-1] == bank.top_k]
    weights = [t.reshape(-1, bank.top_k) for t in parts if t.is_floating_point() and t.shape[-1] == bank.top_k]
    if ids and weights:
        return [(ids[0], one) for one in weights]
    return [reading for t in parts if t.shape[-1] == bank.experts for reading in _scored(t, bank)]


def _scored(scores: Tensor, bank: ExpertBank) -> Iterator[tuple[Tensor, Tensor]]:
    flat = scores.reshape(-1, bank.experts)
    chosen = flat.topk(bank.top_k, dim=-1).indices
    yield chosen, flat.gather(1, chosen)
    for shares in (flat.float().softmax(dim=-1), flat.float().sigmoid()):
        weights = shares.gather(1, chosen)
        for weight in (weights, weights / weights.sum(dim=-1, keepdim=True)):
            yield chosen, weight.to(flat.dtype)


def _checked(bank: ExpertBank, readings: list[Routed]) -> int:
    """1 + the place of the first reading under which the experts' weighted sum is the bank's output.

    Raises:
        CalibrationError: none is.
    """
    worst = []
    with torch.no_grad(), in_memory(bank.module):
        for place, one in enumerate(readings):
            rows = torch.linspace(0, len(one.states) - 1, min(CHECKED, len(one.states))).long()
            expected, given = _weighted_sum(bank, one, rows), one.output.detach()[rows].float()
            worst.append(float((expected - given).norm() / given.norm().clamp_min(torch.finfo(torch.float32).tiny)))
            if worst[-1] <= TOLERANCE.get(one.states.dtype, COARSE):
                return place + 1
    raise CalibrationError(
        f"{bank.name}: the weighted sum of the chosen experts is not what the bank gives (relative difference "
        f"{min(worst, default=float('nan')):.2g}; {len(readings)} readings of its router were tried). "
        "This family is not read yet."
    )


def _weighted_sum(bank: ExpertBank, one: Routed, rows: Tensor) -> Tensor:
    """Σ_k w·E(x) of a few tokens, float32 `[n, H]`."""
    total = torch.zeros(len(rows), bank.hidden, device=one.states.device)
    for column in range(one.experts.shape[1]):
        for place, row in enumerate(rows.tolist()):
            weight = one.weights[row, column].reshape(1)
            state = bank.entering(one.states[row : row + 1], weight)
            made = bank.own_forward(state, int(one.experts[row, column])).float()
            total[place] += (made * bank.leaving(weight).float()).squeeze(0)
    return total
