"""A model whose weights stay on disk is measured to the same numbers as one in memory; so are weights rounded anew."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate.hooks import AlignDevicesHook
from torch.multiprocessing.reductions import StorageWeakRef

from mode_core import bundled
from mode_core.calibration import CalibrationSettings, calibrate
from mode_core.models import ModelError, load_model
from mode_core.models.offloading import in_memory, is_offloaded, memory_bytes
from mode_core.run import Run

SETTINGS = CalibrationSettings(
    bits=(1, 2, 4),
    group_size=16,
    batch_size=3,
    signals=("text_attention", "judge_layer_attention", "duplication"),  # the second one lets the first bank wait
)


@pytest.fixture(scope="module")
def offloaded(tiny_model_folder, tmp_path_factory):
    """The tiny model with hardly anything in memory."""
    folder = tmp_path_factory.mktemp("offload")
    loaded = load_model(tiny_model_folder, max_memory="200KB", offload_folder=folder)
    assert all(is_offloaded(bank.module) for bank in loaded.banks.values())
    return loaded


@pytest.fixture(scope="module")
def in_memory_statistics(tiny_model, tiny_samples):
    return calibrate(tiny_model, tiny_samples, SETTINGS)


def assert_same(mine, other, tolerance: float) -> None:
    for name, bank in other.banks.items():
        for key, array in bank.arrays.items():
            if any(word in key for word in ("selections", "support", "tokens")):
                np.testing.assert_array_equal(mine.banks[name].arrays[key], array, err_msg=key)
            found = mine.banks[name].arrays[key]
            np.testing.assert_allclose(found, array, rtol=tolerance, atol=1e-12, err_msg=key)


def test_the_logits_are_the_same(offloaded, tiny_model, tiny_samples):
    with torch.no_grad():
        mine, other = (m.model(**m.encode(tiny_samples[:3]).inputs).logits for m in (offloaded, tiny_model))
    # Weights from disk lie elsewhere in memory, by which products in float32 round.
    torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


def test_statistics_equal_those_in_memory(offloaded, tiny_samples, in_memory_statistics, tmp_path):
    """Scales lie in the run's folder meanwhile; the weights are dropped again after use."""
    run = Run.create(tmp_path / "run")
    statistics = calibrate(offloaded, tiny_samples, replace(SETTINGS, stack_bytes=0), run=run)
    assert_same(statistics, in_memory_statistics, 1e-5)
    assert all(is_offloaded(bank.module) for bank in offloaded.banks.values())
    assert Run.open(run.path).info["model"]["device"] == "cpu"


def test_gradients_are_the_same_with_one_bank_in_memory_at_a_time(offloaded, tiny_model, tiny_samples, monkeypatch):
    """Told by the storages of the banks' weights: how many are alive whenever another bank's are read."""
    wanted = replace(SETTINGS, bits=(2,), gradients=True, gradient_tokens=2, gradient_draws=2)
    in_memory = calibrate(tiny_model, tiny_samples[:3], wanted)
    banks, held, most = {id(bank.module) for bank in offloaded.banks.values()}, [], []
    read = AlignDevicesHook.pre_forward

    def noted(hook, module, *args, **kwargs):
        made = read(hook, module, *args, **kwargs)
        if id(module) in banks:
            storages = [StorageWeakRef(part.untyped_storage()) for part in module.parameters()]
            held.append((id(module), storages))
            most.append(len({bank for bank, refs in held if not all(ref.expired() for ref in refs)}))
        return made

    monkeypatch.setattr(AlignDevicesHook, "pre_forward", noted)
    assert_same(calibrate(offloaded, tiny_samples[:3], wanted), in_memory, 1e-5)
    assert max(most) == 1 and len(most) > 4 * len(banks)


def test_rounding_anew_equals_kept_weights(tiny_model, tiny_samples, in_memory_statistics):
    statistics = calibrate(tiny_model, tiny_samples, replace(SETTINGS, stack_bytes=0))
    assert_same(statistics, in_memory_statistics, 1e-5)


def test_weights_are_there_only_meanwhile(offloaded, tiny_model):
    bank, other = (list(m.banks.values())[-1] for m in (offloaded, tiny_model))
    with in_memory(bank.module):
        torch.testing.assert_close(bank.fused("up"), other.fused("up"), rtol=0, atol=0)
        with in_memory(bank.module):
            assert not is_offloaded(bank.module)
        assert not is_offloaded(bank.module)
    assert is_offloaded(bank.module)


@pytest.mark.parametrize(
    ("text", "count"), [("12GB", 12 * 10**9), ("800MiB", 800 << 20), ("1.5 gb", 15 * 10**8), (4096, 4096)]
)
def test_amounts_of_memory(text, count):
    assert memory_bytes(text) == count


def test_limits_that_make_no_sense(tiny_model_folder):
    with pytest.raises(ModelError, match="12GB or 800MiB; got 'much'"):
        load_model(tiny_model_folder, max_memory="much")
    with pytest.raises(ModelError, match="use device 'auto' with it, not 'cpu'"):
        load_model(tiny_model_folder, device="cpu", max_memory="1GB")


def test_too_little_memory_for_numbers_that_two_weights_share_is_told(bundled_model, tmp_path):
    """The bundled model's head is its embedding; accelerate keeps the room of the largest layer free."""
    shared = bundled_model.model.get_input_embeddings().weight.nbytes / 1e6
    layers = bundled_model.model.model.language_model.layers
    largest = max(sum(weight.nbytes for weight in layer.parameters()) for layer in layers) / 1e6
    said = rf"lm_head.weight shares its numbers with another weight.*take {shared:.1f} MB.*kept free \({largest:.1f} MB"
    with pytest.raises(ModelError, match=said):
        load_model(bundled.MODEL, max_memory="200KB", offload_folder=tmp_path)
