"""Router entropy: how undecided a router is over all experts of its layer, token by token.

What the experts are called with names the chosen ones alone, so the router itself is watched. What its output means
(shares, or scores that a softmax or a sigmoid turns into shares) nothing but the routing weights proves: the reading
under which these are in proportion to the shares of the chosen experts counts; where none is, the entropy is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mode_core.models import PADDING, ExpertBank, LoadedModel
from mode_core.models.bank_search import ROUTERS
from mode_core.probing.observation import Observation

TOLERANCE = 2e-2  # largest difference of a share of the chosen experts: weights may be rounded to bfloat16


class RouterScores:
    """Inside `with`, notes what every bank's router gives while `wanted()`, until `entropy` asks for it.

    Memory: the routers' outputs of one pass.
    """

    def __init__(self, loaded: LoadedModel, wanted: Callable[[], bool] = lambda: True):
        self.loaded, self.wanted, self.noted = loaded, wanted, {}
        self._hooks: list[Any] = []

    def __enter__(self) -> RouterScores:
        for bank in self.loaded.banks.values():
            block = self.loaded.model.get_submodule(bank.name.rpartition(".")[0])
            named = (getattr(block, name, None) for name in ROUTERS)
            router = next((module for module in named if isinstance(module, nn.Module)), None)
            if router is not None:
                self._hooks.append(router.register_forward_hook(partial(self._note, bank)))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self.noted.clear()

    def _note(self, bank: ExpertBank, _module: nn.Module, _args: tuple, output: Any) -> None:
        if not self.wanted():
            return
        parts = output if isinstance(output, tuple | list) else (output,)
        parts = [part for part in parts if isinstance(part, Tensor) and part.is_floating_point()]
        self.noted[bank.name] = [part.detach().reshape(-1, bank.experts) for part in parts
                                 if part.shape[-1] == bank.experts]  # fmt: skip

    def entropy(self, seen: Observation) -> Tensor:
        """Entropy in bits of the router's shares over all experts of the bank, float32 `[T]`: 0 where one expert has
        all, log₂ E where all are alike; NaN for positions that the bank does not see, and where it is not known."""
        whole = torch.full(seen.experts.shape[:1], torch.nan, device=seen.weights.device)
        rows = torch.arange(len(whole), device=whole.device) if seen.rows is None else seen.rows
        used = seen.encoded.modality.ravel().to(rows.device)[rows] != PADDING
        rows = rows[used]
        for scores in self.noted.pop(seen.bank.name, ()):
            if len(scores) != len(used):
                continue
            for shares in _readings(scores[used].float()):
                if _proportional(shares.gather(1, seen.experts[rows]), seen.weights[rows].float()):
                    whole[rows] = -torch.xlogy(shares, shares).sum(dim=1) / torch.log(torch.tensor(2.0))
                    return whole
        return whole


def _readings(scores: Tensor) -> Iterator[Tensor]:
    """The shares `[n, E]` that a router's output may mean, each row summing to 1."""
    if (scores > 0).all():  # zeros would be the experts that were not chosen
        yield scores / scores.sum(dim=1, keepdim=True)
    yield scores.softmax(dim=1)
    each = scores.sigmoid()
    yield each / each.sum(dim=1, keepdim=True)


def _proportional(shares: Tensor, weights: Tensor) -> bool:
    """Are the chosen experts' shares `[n, k]` in proportion to their weights? One expert alone proves nothing."""
    if shares.shape[1] < 2 or not len(shares):
        return False
    one, other = (each / each.sum(dim=1, keepdim=True) for each in (shares, weights))
    return bool(((one - other).abs() <= TOLERANCE).all())
