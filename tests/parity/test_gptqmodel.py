"""GPTQModel itself: every module's width by its own `dynamic_get`, and its own loading, weights compared.

GPTQModel 7.7.0 declares a newer torch than the one pinned here; it ran beside it all the same.
"""

import json

import pytest
import torch
from safetensors.torch import load_file

from mode_core.export import export
from mode_core.models import load_model
from mode_core.quantization import quantize_experts
from tests.conftest import packable_allocation
from tests.parity.environments import python_with, run_in

PACKAGES = (
    "gptqmodel==7.7.0", "device-smi", "pypcre", "tokenicer", "logbar", "torchao", "defuser", "ninja",
    "threadpoolctl",
)  # fmt: skip
GROUP = 32
LOAD = """
import json, os, re, sys, torch
from safetensors.torch import save_file
from mode_core.models import ensure_torchvision
ensure_torchvision()
from gptqmodel import QuantizeConfig
settings = QuantizeConfig.from_pretrained(sys.argv[1])
told = {name: settings.dynamic_get(name, "bits", settings.bits) for name in json.load(open(sys.argv[3]))}
os.chdir(sys.argv[1])
exec(re.search(r"```python\\n(.*?)```", open("README.md").read(), re.DOTALL)[1])
model = model.eval()
dtype, found = model.dtype, {}
with torch.no_grad():
    for name, layer in model.named_modules():
        if ".experts." in name and name.endswith("_proj"):
            width = layer.in_features
            found[name] = layer(torch.eye(width, dtype=dtype)).float().T.contiguous()
            found[name + ".bits"] = torch.tensor(getattr(layer, "bits", 16))
    ids = torch.arange(10, 40)[None]
    found["logits"] = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.float()
save_file(found, sys.argv[2])
print(json.dumps({"told": told, "dtype": str(dtype)}))
"""


@pytest.mark.parametrize("symmetric", [True, False])
def test_gptqmodel_loads_the_right_weights(packable_model, tmp_path, symmetric) -> None:
    python = python_with("gptqmodel", *PACKAGES)
    allocation = packable_allocation(packable_model, (2, 3, 4, 8, 16))
    grid = {"group_size": GROUP, "symmetric": symmetric}
    export("gptqmodel", allocation, tmp_path / "out", loaded=packable_model, **grid)
    modules = [n for n, m in packable_model.model.named_modules() if isinstance(m, torch.nn.Linear)]
    modules += [
        f"{name}.{expert}.{projection}_proj"
        for name, bank in packable_model.banks.items()
        for expert in range(bank.experts)
        for projection in bank.projections
    ]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    told = run_in(python, LOAD, tmp_path / "out", tmp_path / "found.safetensors", tmp_path / "modules.json")
    told = json.loads(told.splitlines()[-1])
    found = load_file(tmp_path / "found.safetensors")
    assert told["dtype"] == "torch.float16"
    ours = load_model(packable_model.source, device="cpu", dtype="float16")
    ids = torch.arange(10, 40)[None]
    with torch.no_grad(), quantize_experts(ours, allocation, **grid):
        logits = ours.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.float()
        for name, bank in ours.banks.items():
            for expert in range(bank.experts):
                for projection in bank.projections:
                    module = f"{name}.{expert}.{projection}_proj"
                    width = int(allocation.bits[name][expert, int(projection == "down")])
                    assert told["told"].pop(module) == (False if width == 16 else width)
                    assert found.pop(f"{module}.bits") == width
                    assert torch.equal(found.pop(module).half(), bank.matrix(projection, expert)), module
    assert set(told["told"].values()) == {False}  # nothing else is quantized
    away = (found.pop("logits") - logits).abs().max()
    print(f"logits differ by at most {away:.5f} of {logits.abs().max():.2f}")
    assert away < 5e-3
    assert not found
