"""Costs by projection: the halves add up, and the division is near to what one-sided rounding really does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mode_core.allocation import allocate
from mode_core.importance import ImportanceError, cost_table
from mode_core.importance.projections import by_projection
from mode_core.models import load_model
from mode_core.quantization.grids import fake_quantize
from mode_core.run import Run
from mode_core.statistics import ExpertStatistics

RUN, MODEL = "sample_data/run", "sample_data/model"


@pytest.fixture(scope="module")
def statistics() -> ExpertStatistics:
    return Run.open(RUN).statistics


def test_both_halves_add_up_to_the_measured_cost(statistics):
    whole = cost_table(statistics, bits=(2, 3, 4))
    divided = by_projection(whole, statistics)
    for name, table in whole.items():
        assert divided[name].shape == (len(table), 2, 3)
        np.testing.assert_allclose(divided[name].sum(axis=1), table, rtol=1e-12)
        assert (divided[name] >= 0).all()


def test_hand_worked_division(statistics):
    """Relative squared errors 0.5 + 0.25 at the entrance against 0.25 at the exit: three quarters and one."""
    name, bank = next(iter(statistics.banks.items()))
    arrays = dict(bank.arrays)
    arrays["weight_norm"] = np.full_like(bank.arrays["weight_norm"], 2.0)
    arrays["weight_error"] = np.zeros_like(bank.arrays["weight_error"])
    arrays["weight_error"][..., 0], arrays["weight_error"][..., 1], arrays["weight_error"][..., 2] = 2.0, 1.0, 1.0
    changed = type(bank)(bank.name, bank.shape, bank.bits, bank.signals, arrays)
    made = ExpertStatistics({name: changed}, statistics.bits, statistics.signals, statistics.settings)
    costs = cost_table(made, "uniform", bits=(2, 4))
    divided = by_projection(costs, made)
    np.testing.assert_allclose(divided[name][:, 0], 0.75 * costs[name])
    np.testing.assert_allclose(divided[name][:, 1], 0.25 * costs[name])


def one_sided(bank, up: torch.Tensor, down: torch.Tensor, states: torch.Tensor, expert: int) -> float:
    """Measured share of the entrance: the expert's error with that side alone at 3 bits, against both sides' sum."""
    rough = [fake_quantize(side, 3, 128, True) for side in (up, down)]
    plain = bank.expert_forward(states, up[expert], down[expert], expert)
    entrance = bank.expert_forward(states, rough[0][expert], down[expert], expert)
    leaving = bank.expert_forward(states, up[expert], rough[1][expert], expert)
    errors = [float((out - plain).square().sum()) for out in (entrance, leaving)]
    return errors[0] / sum(errors)


@pytest.mark.parametrize(("even", "most"), [(True, 0.1), (False, 0.25)])
def test_the_division_against_one_sided_rounding(statistics, even, most):
    """Even channels (Gaussian weights, seed 0): close. The bundled model's uneven ones: as far off as its head says."""
    bank = next(iter(load_model(MODEL, device="cpu", dtype="float32").banks.values()))
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(256, bank.hidden, generator=generator)
    sides = [bank.fused(side).float() for side in ("up", "down")]
    if even:
        sides = [torch.randn(side.shape, generator=generator) * side.std() for side in sides]
    guessed = []
    for up, down in zip(*sides, strict=True):
        gate, other = up[: bank.intermediate], up[bank.intermediate :]
        parts = [
            float((fake_quantize(w[None], 3, 128, True)[0] - w).norm() / w.norm()) ** 2 for w in (gate, other, down)
        ]
        guessed.append((parts[0] + parts[1]) / sum(parts))
    measured = [one_sided(bank, *sides, states, expert) for expert in range(bank.experts)]
    if not even:
        stored = by_projection(cost_table(statistics, "uniform", bits=(3,)), statistics)[bank.name]
        np.testing.assert_allclose(stored[:, 0, 0] / stored[:, :, 0].sum(axis=1), guessed, rtol=1e-2)
    assert abs(np.mean(guessed) - np.mean(measured)) < most


def test_units_by_projection_can_be_solved(statistics):
    costs = by_projection(cost_table(statistics, bits=(2, 3, 4)), statistics)
    layer, split = (allocate(costs, average_bits=2.5, unit=unit) for unit in ("layer", "projection"))
    finest = allocate(costs, average_bits=2.5, unit="expert_projection")
    assert finest.objective <= split.objective <= layer.objective


def test_costs_of_another_run_are_refused(statistics):
    costs = cost_table(statistics, bits=(2,))
    other = ExpertStatistics(dict(list(statistics.banks.items())[:1]), statistics.bits, statistics.signals, {})
    with pytest.raises(ImportanceError, match="make them from one run"):
        by_projection(costs, other)
