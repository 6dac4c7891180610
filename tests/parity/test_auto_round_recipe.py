"""AutoRound itself: the recipe's script runs for a few steps on samples with pictures; every width is the one asked
for, and stock transformers loads what it wrote and computes with it.

It takes no environment of its own (auto-round is among the pins), but most of a minute: so it is here.
"""

import os

import numpy as np
import pytest
from safetensors.torch import load_file

from mode_core.export import export
from mode_core.export.auto_round_recipe import SCRIPT
from tests.conftest import packable_allocation
from tests.packed import read_matrix
from tests.parity.environments import PLACE, run_in

RUN = """
import runpy, sys
from mode_core.models import ensure_torchvision
ensure_torchvision()
if __name__ == "__main__":
    script, model, out = sys.argv[1:]
    sys.argv = [script, model, "--out", out, "--steps", "2", "--device", "cpu"]
    runpy.run_path(script, run_name="__main__")
"""
LOAD = """
import sys, torch
from safetensors.torch import save_file
from mode_core.models import ensure_torchvision
ensure_torchvision()
from transformers import AutoModelForImageTextToText
model, told = AutoModelForImageTextToText.from_pretrained(sys.argv[1], dtype=torch.float16, output_loading_info=True)
assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"], told
found = {}
with torch.no_grad():
    for name, layer in model.eval().named_modules():
        if ".experts." in name and name.endswith("_proj"):
            width = getattr(layer, "infeatures", None) or layer.in_features
            found[name] = layer(torch.eye(width, dtype=torch.float16)).T.contiguous()
            found[name + ".bits"] = torch.tensor(getattr(layer, "bits", 16))
    ids = torch.arange(10, 40)[None]
    found["logits"] = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.float()
save_file(found, sys.argv[2])
"""


@pytest.mark.slow
def test_the_script_tunes_to_these_bits_and_transformers_loads_it(packable_model, tiny_samples, tmp_path) -> None:
    if PLACE not in os.environ:
        pytest.skip(f"takes most of a minute; set {PLACE}=<folder> to run it with the other proofs")
    import sys
    from pathlib import Path

    allocation = packable_allocation(packable_model, (2, 3, 4, 8, 16))
    recipe = {"loaded": packable_model, "group_size": 64, "samples": tiny_samples}  # down_proj has rows of 96
    export("auto_round_recipe", allocation, tmp_path / "recipe", **recipe)
    run_in(Path(sys.executable), RUN, tmp_path / "recipe" / SCRIPT, packable_model.source, tmp_path / "tuned")
    (tuned,) = {path.parent for path in (tmp_path / "tuned").rglob("config.json")}
    run_in(Path(sys.executable), LOAD, tuned, tmp_path / "found.safetensors")
    found, stored = load_file(tmp_path / "found.safetensors"), load_file(tuned / "model.safetensors")
    for name, bank in packable_model.banks.items():
        for expert in range(bank.experts):
            for projection in bank.projections:
                module = f"{name}.{expert}.{projection}_proj"
                width = int(allocation.bits[name][expert, int(projection == "down")])
                assert found.pop(f"{module}.bits") == width, module
                weights, original = found.pop(module).float(), bank.matrix(projection, expert).float()
                far = float((weights - original).norm() / original.norm())
                assert far < {2: 0.75, 3: 0.4, 4: 0.2, 8: 0.02, 16: 1e-3}[width], (module, width, far)
                if width != 16:
                    read = read_matrix(stored, module, width, True)  # by plain loops, from the file
                    np.testing.assert_allclose(weights.numpy(), read, atol=2e-3)
    assert set(found) == {"logits"} and found["logits"].isfinite().all()
