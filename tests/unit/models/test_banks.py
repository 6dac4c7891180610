"""Expert banks in every storage that transformers' experts interface knows, and clear words where there is none."""

import pytest
import torch
from torch import nn
from transformers.integrations.moe import use_experts_implementation

from mode_core.models import ModelError, find_banks

EXPERTS, HIDDEN, INNER = 3, 6, 4


class Config:
    num_experts_per_tok = 2
    _experts_implementation = "eager"


def experts_class(transposed: bool, concatenated: bool, bias: bool, gated: bool) -> type[nn.Module]:
    """An experts module as a family would write it, with a forward of its own that is the reference."""

    class Experts(nn.Module):
        def __init__(self, config):
            super().__init__()
            rows = 2 * INNER if gated else INNER
            up, down = torch.randn(EXPERTS, rows, HIDDEN), torch.randn(EXPERTS, HIDDEN, INNER)
            name = "gate_up_proj" if gated else "up_proj"
            setattr(self, name, nn.Parameter(up.mT.contiguous() if transposed else up))
            self.down_proj = nn.Parameter(down.mT.contiguous() if transposed else down)
            if bias:
                setattr(self, f"{name}_bias", nn.Parameter(torch.randn(EXPERTS, rows)))
                self.down_proj_bias = nn.Parameter(torch.randn(EXPERTS, HIDDEN))
            self.act_fn = nn.SiLU()
            self.num_experts = EXPERTS

        def forward(self, states, index, weights):
            raise AssertionError("the interface takes one of its own implementations")

        if not concatenated:

            def _apply_gate(self, both):
                return self.act_fn(both[..., 0::2]) * both[..., 1::2]

    return use_experts_implementation(
        Experts, is_transposed=transposed, is_concatenated=concatenated, has_bias=bias, has_gate=gated
    )


class Model(nn.Module):
    def __init__(self, experts: nn.Module):
        super().__init__()
        self.layers = nn.ModuleList([nn.Module(), nn.Module()])
        self.layers[1].mlp = nn.Module()
        self.layers[1].mlp.experts = experts


STORAGES = [
    (False, True, False, True),
    (True, True, False, True),
    (True, False, True, True),
    (False, False, False, True),
    (False, True, True, False),
]


@pytest.mark.parametrize(("transposed", "concatenated", "bias", "gated"), STORAGES)
def test_one_view_of_every_storage(transposed, concatenated, bias, gated):
    """`expert_forward` and a forward written with the three matrices, both against transformers' own."""
    torch.manual_seed(0)
    module = experts_class(transposed, concatenated, bias, gated)(Config())
    (bank,) = find_banks(Model(module)).values()
    assert (bank.name, bank.layer, bank.experts, bank.top_k) == ("layers.1.mlp.experts", 1, EXPERTS, 2)
    assert (bank.hidden, bank.intermediate, bank.has_gate) == (HIDDEN, INNER, gated)
    assert bank.projections == (("gate", "up", "down") if gated else ("up", "down"))
    states = torch.randn(5, HIDDEN)
    module.config._experts_implementation = "batched_mm"
    for expert in range(EXPERTS):
        own = module(states, torch.full((5, 1), expert), torch.ones(5, 1))
        ours = bank.expert_forward(states, bank.fused("up")[expert], bank.fused("down")[expert], expert)
        assert torch.allclose(ours, own, atol=1e-5)
        if not bias:
            inner = states @ bank.matrix("up", expert).T
            inner = (
                nn.functional.silu(states @ bank.matrix("gate", expert).T) * inner if gated else module.act_fn(inner)
            )
            assert torch.allclose(inner @ bank.matrix("down", expert).T, own, atol=1e-5)


@pytest.mark.parametrize(("transposed", "concatenated", "bias", "gated"), STORAGES)
def test_views_write_the_model(transposed, concatenated, bias, gated):
    module = experts_class(transposed, concatenated, bias, gated)(Config())
    (bank,) = find_banks(Model(module)).values()
    for number, projection in enumerate(bank.projections, 1):
        bank.matrix(projection, 2).fill_(number)
    fused = bank.fused("up")[2]
    assert sorted(set(fused.unique().tolist())) == ([1, 2] if gated else [1])
    assert (bank.fused("down")[2] == len(bank.projections)).all()


def test_several_widths_in_one_go():
    module = experts_class(False, True, True, True)(Config())
    (bank,) = find_banks(Model(module)).values()
    up, down = torch.randn(4, 2 * INNER, HIDDEN), torch.randn(4, HIDDEN, INNER)
    states = torch.randn(5, HIDDEN)
    together = bank.expert_forward(states, up, down, 1)
    for place in range(4):
        assert torch.allclose(together[place], bank.expert_forward(states, up[place], down[place], 1), atol=1e-5)
    with pytest.raises(ValueError, match="name the expert"):
        bank.expert_forward(states, up, down)


def test_a_dense_model_is_told_what_was_looked_for():
    with pytest.raises(ModelError, match=r"no bank of routed experts.*3-D 'down_proj'.*called 'experts': none"):
        find_banks(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(ModelError, match=r"called 'experts': layers\.1\.mlp\.experts"):
        find_banks(Model(nn.ModuleList([nn.Linear(2, 2)])))


def test_a_bank_that_does_not_tell_its_storage_is_refused():
    module = nn.Module()
    module.gate_up_proj, module.down_proj = nn.Parameter(torch.ones(2, 4, 3)), nn.Parameter(torch.ones(2, 3, 2))
    with pytest.raises(ModelError, match=r"does not say how they are stored .no is_transposed"):
        find_banks(Model(module))


def test_an_unknown_matrix_is_refused():
    (bank,) = find_banks(Model(experts_class(False, True, False, False)(Config()))).values()
    with pytest.raises(KeyError, match="has the matrices up, down"):
        bank.stacked("gate")
