"""The Hessian's trace against torch's whole Hessian, and against every basis vector of one expert; seeds stated."""

import numpy as np
import pytest
import torch

from mode_core.calibration import CalibrationSettings, calibrate, hessian
from mode_core.calibration.gradients import draw_answers
from mode_core.calibration.hessian import (
    _signs,
    _twice_differentiable,
    answer_loss,
    expert_parameters,
    matrix_sums,
    vector_products,
)
from mode_core.importance import cost_table
from mode_core.models import ensure_torchvision, load_model
from mode_core.probing.probe import Probe
from mode_core.statistics import fold_of
from tests.conftest import EYES, TEXT, tiny_processor


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """As the tiny model, with matrices of 4 × 16 only, in bfloat16; weights seed 0."""
    ensure_torchvision()
    from transformers import Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration

    folder = tmp_path_factory.mktemp("small")
    shapes = {"hidden_size": 16, "moe_intermediate_size": 4, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = Qwen3VLMoeConfig(
        text_config=TEXT | shapes | {"num_experts": 4},
        vision_config=EYES | {"out_hidden_size": 16},
        image_token_id=6,
        video_token_id=7,
        vision_start_token_id=3,
    )
    torch.manual_seed(0)
    model = Qwen3VLMoeForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter.normal_(0.0, 0.3)
    model.bfloat16().save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    loaded = load_model(folder, device="cpu")
    loaded.model.set_experts_implementation("eager")  # the grouped kernel takes no rows of 8 bytes
    return loaded


def test_products_are_those_of_the_whole_hessian():
    """f(A, b) = Σ tanh(A·b)² with 3 × 2 + 2 entries: v ∘ Hv, seed 1."""
    torch.manual_seed(1)
    parameters = [torch.randn(3, 2, dtype=torch.float64), torch.randn(2, dtype=torch.float64)]
    vectors = [torch.randn_like(parameter) for parameter in parameters]

    def loss(flat):
        return (flat[:6].reshape(3, 2) @ flat[6:]).tanh().square().sum()

    whole = torch.autograd.functional.hessian(loss, torch.cat([p.ravel() for p in parameters]))
    along = torch.cat([v.ravel() for v in vectors])
    tracked = [parameter.requires_grad_() for parameter in parameters]
    value = (tracked[0] @ tracked[1]).tanh().square().sum()
    first = torch.autograd.grad(value, tracked, create_graph=True)
    found = torch.cat([product.ravel() for product in vector_products(first, tracked, vectors)])
    torch.testing.assert_close(found.detach(), along * (whole @ along))


def test_sums_go_to_their_matrix(small):
    """Parameters with known content give the sums of what each matrix's own view shows."""
    with expert_parameters(small) as parameters:
        contents = [torch.arange(p.numel(), dtype=torch.float64).reshape(p.shape) for p in parameters]
        for bank in small.banks.values():
            found = matrix_sums(bank, parameters, contents)
            up, down = (
                contents[next(i for i, p in enumerate(parameters) if p is getattr(bank.module, name))]
                for name in ("gate_up_proj", "down_proj")
            )
            halves = up.reshape(4, 16, 8) if bank.module.is_transposed else up.mT
            expected = [halves[..., :4].sum(dim=(1, 2)), halves[..., 4:].sum(dim=(1, 2)), down.sum(dim=(1, 2))]
            torch.testing.assert_close(found, torch.stack(expected, dim=1))
    assert not any(p.requires_grad for p in small.model.parameters())


def test_the_trace_is_that_of_the_true_hessian(small, tiny_samples):
    """The exact traces of up and down of one expert from their 128 basis vectors, and the mean of 120 probes."""
    bank = next(iter(small.banks.values()))
    configs = Probe(small, ("text_attention",), lambda seen: None).configs
    with _twice_differentiable(small.model, configs), expert_parameters(small) as parameters:
        drawn = draw_answers(small, [tiny_samples[6]], 3)
        first = torch.autograd.grad(answer_loss(small, drawn), parameters, create_graph=True)
        sampled = torch.stack([
            matrix_sums(bank, parameters, vector_products(first, parameters, _signs(parameters, [seed])))[:, 1:]
            for seed in range(120)
        ])  # fmt: skip
        mean, error = sampled.mean(dim=0), sampled.std(dim=0) / 120**0.5
        expert = int(mean.sum(dim=1).argmax())
        exact = torch.tensor([_exact(bank, matrix, expert, first, parameters) for matrix in ("up", "down")])
    assert ((mean[expert] - exact).abs() < 4 * error[expert]).all()
    assert float(exact.sum()) > 4 * float(error[expert].norm())  # so large that the check could fail


def test_the_trace_is_a_mean_over_probes(small, tiny_samples, monkeypatch):
    """Where every probe draws the same signs, three say what one says."""
    monkeypatch.setattr(hessian, "_signs", lambda parameters, seed: _signs(parameters, [7]))
    common = {"bits": (2, 4), "group_size": 16, "gradient_tokens": 3}
    one, three = (
        calibrate(small, tiny_samples[6:7], CalibrationSettings(hessian_probes=probes, **common)) for probes in (1, 3)
    )
    for name, bank in one.banks.items():
        assert np.abs(bank.hessian_trace).max() > 0
        np.testing.assert_allclose(three.banks[name].hessian_trace, bank.hessian_trace, rtol=1e-4, atol=1e-7)


def _exact(bank, projection, expert, first, parameters):
    """tr(H) of one matrix, one second derivative at a time."""
    view, total = bank.matrix(projection, expert), 0.0
    for place in np.ndindex(*view.shape):
        vectors = [torch.zeros_like(p) for p in parameters]
        for parameter, vector in zip(parameters, vectors, strict=True):
            offset = (view[place].data_ptr() - parameter.data_ptr()) // 4
            if 0 <= offset < parameter.numel():
                vector.view(-1)[offset] = 1.0
        total += float(matrix_sums(bank, parameters, vector_products(first, parameters, vectors)).sum())
    return total


def test_calibration_keeps_traces_by_fold_and_leaves_the_model_as_it_was(small, tiny_samples):
    before = {name: value.clone() for name, value in small.model.state_dict().items()}
    settings = CalibrationSettings(bits=(2, 4), group_size=16, hessian_probes=2, gradient_tokens=3, batch_size=2)
    samples = tiny_samples[5:8]
    found = calibrate(small, samples, settings)
    assert found.extras == ("hessian",)
    for name, value in small.model.state_dict().items():
        assert value.dtype == before[name].dtype and torch.equal(value, before[name])
    counts = np.bincount([fold_of(sample.id) for sample in samples], minlength=8)
    for bank in found:
        np.testing.assert_allclose(bank.arrays["hessian_samples"], counts)
        filled = np.abs(bank.arrays["hessian_trace"]).sum(axis=(1, 2)) > 0
        assert (filled == (counts > 0)).all()
    single = calibrate(small, samples[:1], settings) + calibrate(small, samples[1:], settings)
    for name, bank in found.banks.items():
        np.testing.assert_allclose(single.banks[name].hessian_trace, bank.hessian_trace, rtol=1e-3, atol=1e-6)
    costs = cost_table(found, "hessian_trace", bits=(2, 4))
    assert all((table[:, 0] >= table[:, 1]).all() for table in costs.values())
