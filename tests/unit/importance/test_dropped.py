"""Width 0, an expert left out: what it costs when measured, and when only the weights are known. Seed 9."""

import numpy as np
import pytest

from mode_core.allocation import allocate
from mode_core.calibration import CalibrationSettings, calibrate
from mode_core.importance import METHODS, cost_table
from mode_core.importance.sensitivity import data_free
from mode_core.importance.stacks import stacks
from tests.synthetic import synthetic_statistics

SETTINGS = CalibrationSettings(bits=(0, 2, 3), group_size=16, batch_size=4)


@pytest.fixture(scope="module")
def statistics(tiny_model, tiny_samples):
    return calibrate(tiny_model, tiny_samples, SETTINGS)


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if not method.needs])
def test_every_method_can_leave_experts_out(statistics, method):
    costs = cost_table(statistics, method, bits=(0, 2, 3))
    for bank in costs:
        table = costs[bank][~costs.unsupported[bank]]
        assert (table[:, 0] >= table[:, 2]).all()
    allocation = allocate(costs, bits=(0, 2, 3), average_bits=1.5)
    assert allocation.proven_optimal and allocation.average_bits <= 1.5
    assert any((bits == 0).any() for bits in allocation.bits.values())


def test_the_cost_of_leaving_out_is_the_output_energy(statistics):
    """δ(0) = mean of ‖E(x)‖²/d over the routed tokens; with one expert's frequencies times that, summed."""
    for name, bank in statistics.banks.items():
        used = bank.text("support") > 0
        energy = bank.text("error")[:, 0] / np.maximum(bank.text("support"), 1) / bank.shape.hidden
        share = bank.text_selections / bank.text_selections.sum()
        costs = cost_table(statistics, "mode", vision_weight=0.0, bits=(0,))[name][:, 0]
        np.testing.assert_allclose(costs[used], (share * energy)[used], rtol=1e-12)


def test_without_data_the_estimate_is_the_whole_output():
    """Isotropic inputs of unit variance: the mean energy of the expert's output, drawn with random weights."""
    draw, hidden, inner, tokens = np.random.default_rng(9), 96, 80, 4000
    statistics = synthetic_statistics(1, 1, bits=(0, 4), hidden=hidden, intermediate=inner)
    bank = next(iter(statistics))
    gate, up = (draw.normal(0, 0.2 / np.sqrt(hidden), (inner, hidden)) for _ in range(2))
    down = draw.normal(0, 1 / np.sqrt(inner), (hidden, inner))
    bank.arrays["weight_norm"][0] = [np.linalg.norm(w) for w in (gate, up, down)]
    bank.arrays["weight_error"][0, 0] = bank.arrays["weight_norm"][0] ** 2
    bank.arrays["input_tokens"][:], bank.arrays["input_energy"][:] = 1, hidden
    states = draw.standard_normal((tokens, hidden))
    middle = states @ gate.T
    output = (middle / (1 + np.exp(-middle)) * (states @ up.T)) @ down.T
    assert data_free(stacks(statistics)[0])[0, 0, 0] == pytest.approx((output**2).mean(), rel=0.1)
