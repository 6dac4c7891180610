"""Families past transformers' experts interface, and those with several banks a layer, with their weights on disk."""

import numpy as np
import pytest

from mode_core.calibration import CalibrationSettings, calibrate
from mode_core.models import load_model
from mode_core.models.offloading import is_offloaded
from mode_core.samples import Sample
from tests.families.making import DOUBLES, save_family

SAMPLES = [Sample((), ({"role": "user", "content": text},), id=text) for text in ("is the circle red ?", "how many")]


@pytest.mark.parametrize("name", ["llama4", "step3p7", "ernie4_5_vl_moe", "kimi_vl"])
def test_numbers_do_not_depend_on_where_the_weights_are(name, tmp_path):
    folder = save_family(name, tmp_path / name)
    settings = CalibrationSettings(bits=(2, 4), group_size=16, signals=("text_attention",), batch_size=2)
    trust = {"trust_remote_code": name in DOUBLES}
    whole = calibrate(load_model(folder, device="cpu", **trust), SAMPLES, settings)
    on_disk = load_model(folder, max_memory="400KB", offload_folder=tmp_path / "disk", **trust)
    assert all(is_offloaded(bank.module) for bank in on_disk.banks.values())
    parts = calibrate(on_disk, SAMPLES, settings)
    for bank in whole:
        for key, values in bank.arrays.items():
            assert np.allclose(values, parts.banks[bank.name].arrays[key], rtol=1e-5), (bank.name, key)
    assert sum(bank.arrays["text_error"].sum() for bank in whole) > 0
