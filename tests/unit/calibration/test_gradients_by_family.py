"""Gradients in families past transformers' interface: against finite differences at the block that holds the bank.

Families: experts fed with scaled tokens, two banks a layer, a list of experts without autograd and without a loop that
generates, and a model without pictures. Random weights, float32, seeds 0.
"""

import json

import numpy as np
import pytest
import torch

from mode_core.calibration import CalibrationError, CalibrationSettings, calibrate, gradients
from mode_core.calibration.gradients import (
    barred_tokens,
    draw_answers,
    label_projection,
    ordinary,
    random_signs,
    squared_gradients,
)
from mode_core.models import PADDING, load_model
from mode_core.models.last_logits import keeping
from mode_core.probing.probe import Probe
from mode_core.samples import read_samples
from tests.conftest import drawn_picture
from tests.families.making import save_family

PICTURES = ("llama4", "ernie4_5_vl_moe", "kimi_vl")


@pytest.fixture(scope="module", params=[*PICTURES, "mixtral"])
def case(request, tmp_path_factory):
    """The family's tiny model and three samples, or one without a picture."""
    folder = tmp_path_factory.mktemp("family")
    drawn_picture(32, 32, np.random.default_rng(1)).save(folder / "0.png")
    lines = [{"id": "a", "text": "is it red ?", "images": []}, {"id": "b", "text": "what colour ?", "image": "0.png"}]
    lines = lines if request.param in PICTURES else lines[:1]
    (folder / "samples.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    saved = save_family(request.param, folder / "model")
    loaded = load_model(saved, device="cpu", trust_remote_code=request.param == "kimi_vl")
    return request.param, loaded, read_samples(folder / "samples.jsonl")


def logits_of(loaded, drawn, block=None, move=None):
    """Logits that predict the answers; `move` `[T, H]` is added to a block's output."""

    def add(module, inputs, output):
        tensor = output if isinstance(output, torch.Tensor) else output[0]
        moved = tensor + move.reshape(tensor.shape)
        return moved if tensor is output else (moved, *output[1:])

    hook = block.register_forward_hook(add) if block is not None else None
    keep = drawn.real.shape[1]
    with torch.no_grad():
        made = loaded.model(**drawn.encoded.inputs, use_cache=False, **keeping(loaded.model, keep + 1)).logits
    if hook is not None:
        hook.remove()
    return ordinary(made[:, -keep - 1 : -1], barred_tokens(loaded))


def test_gradients_are_finite_differences(case):
    """Six of the largest gradients of the last layer's banks (an earlier layer's pass through later experts)."""
    name, loaded, samples = case
    drawn = draw_answers(loaded, samples, 3)
    with Probe(loaded, ("duplication",) if name in PICTURES else (), lambda seen: None) as probe:
        found = list(squared_gradients(loaded, probe, drawn))
    last = max(seen.bank.layer for seen, _ in found)
    logits = logits_of(loaded, drawn)
    weights = label_projection(logits, random_signs(drawn.encoded, logits.shape, 0, 0)) * drawn.real[..., None]
    known, step = weights != 0, 0.02
    for seen, squared in found:
        assert (squared[0].sum(dim=1)[seen.encoded.modality.ravel() == PADDING] == 0).all()
        if seen.bank.layer != last or not squared.any():
            continue
        before, _, after = seen.bank.name.partition(f".{last}.")
        block = loaded.model.get_submodule(f"{before}.{last}.{after.partition('.')[0]}")  # the layer's whole block
        for place in squared[0].ravel().topk(6).indices.tolist():
            move = torch.zeros(squared[0].numel())
            move[place] = step
            up, down = (logits_of(loaded, drawn, block, sign * move) for sign in (1, -1))
            slope = float((weights[known] * (up - down)[known]).sum()) / (2 * step)
            assert slope**2 == pytest.approx(float(squared[0].ravel()[place]), rel=0.05)


def test_calibration_takes_them(case):
    name, loaded, samples = case
    settings = CalibrationSettings(bits=(2, 4), group_size=16, gradients=True, gradient_tokens=3)
    found = calibrate(loaded, samples, settings)
    assert found.extras == ("gradients",)
    first = [bank for bank in found if bank.shape.layer == min(b.shape.layer for b in found)]
    assert all((bank.text("fisher").sum(axis=0) > 0).all() for bank in first)
    if name == "kimi_vl":
        with pytest.raises(CalibrationError, match="runs its experts without autograd"):
            calibrate(loaded, samples, CalibrationSettings(bits=(2, 4), group_size=16, hessian_probes=1))


def test_recomputed_layer_by_layer_they_are_the_same(case, monkeypatch):
    """As where weights stream from disk; two temperatures, so that every layer is computed again twice."""
    name, loaded, samples = case
    drawn = draw_answers(loaded, samples, 3)
    with Probe(loaded, ("duplication",) if name in PICTURES else (), lambda seen: None) as probe:
        kept = {seen.bank.name: squared for seen, squared in squared_gradients(loaded, probe, drawn, 0, 1, (1.0, 2.0))}
        monkeypatch.setattr(gradients, "is_offloaded", lambda model: True)
        for seen, squared in squared_gradients(loaded, probe, drawn, 0, 1, (1.0, 2.0)):
            torch.testing.assert_close(squared, kept.pop(seen.bank.name), rtol=1e-5, atol=1e-12)
    assert not kept
