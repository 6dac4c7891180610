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


class Mlp(nn.Module):
    """One expert of a family that keeps its experts in a ModuleList."""

    def __init__(self, names=("gate_proj", "up_proj", "down_proj"), bias=False):
        super().__init__()
        self.names = names
        for name in names[:-1]:
            setattr(self, name, nn.Linear(HIDDEN, INNER, bias=bias))
        setattr(self, names[-1], nn.Linear(INNER, HIDDEN, bias=bias))
        self.act_fn = nn.SiLU()

    def forward(self, states):
        *into, down = (getattr(self, name) for name in self.names)
        inner = self.act_fn(into[0](states))
        return down(inner if len(into) == 1 else inner * into[1](states))


def listed(**arguments) -> nn.Module:
    model = Model(nn.ModuleList([Mlp(**arguments) for _ in range(EXPERTS)]))
    model.layers[1].mlp.gate = nn.Linear(HIDDEN, EXPERTS)
    model.layers[1].mlp.top_k = 2
    return model


LISTS = [("gate_proj", "up_proj", "down_proj"), ("w1", "w3", "w2"), ("up_proj", "down_proj")]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("names", LISTS)
def test_a_list_of_experts_is_a_bank_too(names, bias):
    torch.manual_seed(0)
    model = listed(names=names, bias=bias)
    (bank,) = find_banks(model).values()
    assert (bank.layer, bank.experts, bank.top_k, bank.has_gate) == (1, EXPERTS, 2, len(names) == 3)
    assert (bank.hidden, bank.intermediate, bank.reached) == (HIDDEN, INNER, "list")
    assert bank.fused("up").shape == (EXPERTS, INNER * (len(names) - 1), HIDDEN)
    states = torch.randn(5, HIDDEN)
    for expert, own in enumerate(model.layers[1].mlp.experts):
        fused = bank.expert_forward(states, bank.fused("up")[expert], bank.fused("down")[expert], expert)
        for ours in (fused, bank.own_forward(states, expert)):
            assert torch.allclose(ours, own(states), atol=1e-6)


@pytest.mark.parametrize("names", LISTS)
def test_a_matrix_of_a_list_writes_the_model(names):
    model = listed(names=names)
    (bank,) = find_banks(model).values()
    for number, (projection, name) in enumerate(zip(bank.projections, names, strict=True), 1):
        bank.matrix(projection, 2).fill_(number)
        assert (getattr(model.layers[1].mlp.experts[2], name).weight == number).all()
        assert not (bank.stacked(projection)[1] == number).any()
        assert (bank.fused("down" if projection == "down" else "up")[2, bank.rows(projection)] == number).all()


def test_a_dense_model_is_told_what_was_looked_for():
    with pytest.raises(ModelError, match=r"no bank of routed experts.*3-D 'down_proj'.*called 'experts': none"):
        find_banks(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(ModelError, match=r"called 'experts': layers\.1\.mlp\.experts \(ModuleList of Linear\)"):
        find_banks(Model(nn.ModuleList([nn.Linear(2, 2)])))


def test_a_list_without_a_router_is_no_bank():
    model = listed()
    del model.layers[1].mlp.gate
    with pytest.raises(ModelError, match=r"ModuleList of Mlp"):
        find_banks(model)


def bare(into: tuple[int, ...], down: tuple[int, ...], forward) -> Model:
    """Fused experts of a family that does not use transformers' interface."""
    module = type("Bare", (nn.Module,), {"forward": forward, "act_fn": nn.SiLU(), "top_k": 1})()
    module.gate_up_proj, module.down_proj = nn.Parameter(torch.randn(2, *into)), nn.Parameter(torch.randn(2, *down))
    return Model(module)


@pytest.mark.parametrize("transposed", [False, True])
def test_without_flags_the_shapes_tell(transposed):
    shapes = ((3, 4), (2, 3)) if transposed else ((4, 3), (3, 2))
    (bank,) = find_banks(bare(*shapes, lambda self, states, index, weights: states)).values()
    assert (bank.hidden, bank.intermediate, bank.reached) == (3, 2, "call")
    assert bank.matrix("gate", 1).shape == (2, 3) and bank.matrix("down", 1).shape == (3, 2)


def test_fused_experts_that_are_not_understood_are_refused():
    with pytest.raises(ModelError, match=r"neither flags .* nor shapes tell .*into \(5, 3\), down \(3, 2\)"):
        find_banks(bare((5, 3), (3, 2), lambda self, states: states))
    with pytest.raises(ModelError, match=r"is called with \(states, index\); looked for"):
        find_banks(bare((4, 3), (3, 2), lambda self, states, index: states))


def test_quantized_experts_are_refused():
    model = Model(experts_class(False, True, False, True)(Config()))
    experts = model.layers[1].mlp.experts
    experts.down_proj = nn.Parameter(experts.down_proj.to(torch.float8_e4m3fn), requires_grad=False)
    with pytest.raises(ModelError, match=r"quantized already \(torch.float8_e4m3fn\); load the original"):
        find_banks(model)


def test_an_unknown_matrix_is_refused():
    (bank,) = find_banks(Model(experts_class(False, True, False, False)(Config()))).values()
    with pytest.raises(KeyError, match="has the matrices up, down"):
        bank.stacked("gate")
