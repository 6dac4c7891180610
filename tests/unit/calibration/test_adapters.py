"""Experts past transformers' interface: what their block's router said is read rightly, or the family is refused."""

import pytest
import torch
from torch import nn

from mode_core.errors import CalibrationError
from mode_core.models import find_banks
from mode_core.probing.adapters import watch_bank

EXPERTS, HIDDEN, INNER, TOP = 6, 8, 5, 2


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate_proj, self.up_proj = (nn.Linear(HIDDEN, INNER, bias=False) for _ in range(2))
        self.down_proj, self.act_fn = nn.Linear(INNER, HIDDEN, bias=False), nn.SiLU()

    def forward(self, x):
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))


SCORES = {
    "softmax": lambda scores, top: scores.softmax(-1).gather(1, top),
    "shares of the chosen": lambda scores, top: scores.gather(1, top).softmax(-1),
    "sigmoid": lambda scores, top: scores.sigmoid().gather(1, top),
    "sigmoid to sum 1": lambda scores, top: nn.functional.normalize(scores.sigmoid().gather(1, top), p=1, dim=1),
    "scores": lambda scores, top: scores.gather(1, top),
}


class Block(nn.Module):
    """A list of experts, a linear router, perhaps a shared expert; what it does with the scores is given."""

    def __init__(self, weigh, shared=False, factor=1.0):
        super().__init__()
        self.experts, self.gate = nn.ModuleList([Mlp() for _ in range(EXPERTS)]), nn.Linear(HIDDEN, EXPERTS)
        self.top_k, self.weigh, self.factor = TOP, weigh, factor
        if shared:
            self.shared_experts = Mlp()

    def forward(self, x):
        flat = x.reshape(-1, HIDDEN)
        scores = self.gate(flat)
        top = scores.topk(TOP, dim=-1).indices
        weights = self.weigh(scores, top) * self.factor
        made = sum(
            weights[:, k, None] * torch.stack([self.experts[e](row) for row, e in zip(flat, top[:, k], strict=True)])
            for k in range(TOP)
        )
        made = made.view(x.shape)
        return made + self.shared_experts(x) if hasattr(self, "shared_experts") else made


def watched(block: Block):
    """(what the watcher told, the block's output, states) of one pass over 2 × 4 states; seed 0."""
    torch.manual_seed(0)
    model = nn.Module()
    model.layers = nn.ModuleList([nn.Module()])
    model.layers[0].mlp = block
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_(0.0, 0.5)
    (bank,) = find_banks(model).values()
    told, states = [], torch.randn(2, 4, HIDDEN)
    undo = watch_bank(bank, model, lambda bank, found: told.append(found))
    with torch.no_grad():
        output = first(block(states))
        undo()
        assert torch.equal(first(block(states)), output)
    assert len(told) == 1
    return told[0], output, states


def first(output):
    return output[0] if isinstance(output, tuple) else output


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("weigh", SCORES.values(), ids=SCORES.keys())
def test_scores_are_read_as_the_block_uses_them(weigh, shared):
    block = Block(weigh, shared)
    found, output, states = watched(block)
    flat = states.reshape(-1, HIDDEN)
    with torch.no_grad():
        scores = block.gate(flat)
        expected = weigh(scores, scores.topk(TOP, dim=-1).indices)
        routed = output - block.shared_experts(states) if shared else output
    assert torch.equal(found.states, flat)
    assert torch.equal(found.experts, scores.topk(TOP, dim=-1).indices)
    assert torch.allclose(found.weights, expected, atol=1e-6)
    assert torch.allclose(found.output, routed.reshape(-1, HIDDEN), atol=1e-6)
    assert found.source.shape == states.shape


def test_a_block_that_is_not_understood_is_refused():
    with pytest.raises(CalibrationError, match=r"weighted sum of the chosen experts is not what .*5 readings .*tried"):
        watched(Block(SCORES["softmax"], factor=3.0))


def test_a_router_that_gives_ids_and_weights_is_believed():
    class Router(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.empty(EXPERTS, HIDDEN))

        def forward(self, x):
            weights, ids = (x.reshape(-1, HIDDEN) @ self.weight.T).sigmoid().topk(TOP, sorted=False)
            return ids, 2.5 * weights, None

    class Given(Block):
        def forward(self, x):
            ids, weights, _ = self.gate(x)
            rows = x.reshape(-1, HIDDEN)
            made = [
                sum(w * self.experts[e](row) for e, w in zip(mine.tolist(), share, strict=True))
                for row, mine, share in zip(rows, ids, weights, strict=True)
            ]
            return torch.stack(made).view(x.shape), None

    block = Given(None)
    block.gate = Router()
    found, output, states = watched(block)
    ids, weights, _ = block.gate(states)
    assert torch.equal(found.experts, ids) and torch.equal(found.weights, weights)
    assert torch.equal(found.output, output.reshape(-1, HIDDEN))
