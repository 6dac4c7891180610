"""An expert of 0 bits gives nothing at all, biases included, as its measured cost says; afterwards all is as it was."""

import numpy as np
import pytest
import torch

from mode_core.allocation import uniform_allocation
from mode_core.calibration import CalibrationSettings, calibrate
from mode_core.models import load_model
from mode_core.probing.probe import Probe
from mode_core.quantization import quantize_experts
from mode_core.samples import Sample
from tests.families.making import save_family

SETTINGS = CalibrationSettings(bits=(0, 2), group_size=16, batch_size=1)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny InternVL with gpt-oss experts, which have biases."""
    return load_model(save_family("internvl_gpt_oss", tmp_path_factory.mktemp("family") / "oss"), device="cpu")


@pytest.mark.parametrize("storage", ["values", "packed"])
def test_all_experts_left_out_give_nothing(model, storage):
    sample = Sample((), ({"role": "user", "content": "is it red ?"},), id="a")
    nothing = uniform_allocation({name: np.zeros([bank.experts, 1]) for name, bank in model.banks.items()}, (0,), 0)
    before = {name: parameter.clone() for name, parameter in model.model.named_parameters()}
    seen = []
    with quantize_experts(model, nothing, group_size=16, storage=storage), torch.no_grad():
        for bank in model.banks.values():
            module = bank.module
            hook = module.register_forward_hook(lambda _m, _a, output: seen.append(output))
            model.model(**model.encode([sample]).inputs, use_cache=False)
            hook.remove()
    assert len(seen) == len(model.banks) and not any(output.any() for output in seen)
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.model.named_parameters())


def test_the_measured_cost_is_that_of_the_whole_output(model):
    """‖E(x)‖² with biases, summed over what the probe saw, expert by expert."""
    sample, seen = Sample((), ({"role": "user", "content": "is it red ?"},), id="a"), []
    statistics = calibrate(model, [sample], SETTINGS)
    with Probe(model, ("duplication",), seen.append) as probe:
        probe.run(model.encode([sample]))
    for one in seen:
        expected = np.zeros(one.bank.experts)
        for token, experts in enumerate(one.experts.tolist()):
            for expert in experts:
                expected[expert] += float(one.bank.own_forward(one.states[token : token + 1], expert).square().sum())
        np.testing.assert_allclose(statistics.banks[one.bank.name].text("error")[:, 0], expected, rtol=1e-4)
