"""mlx-vlm opens the MLX checkpoint; its logits on text are compared with ours."""

import torch
from safetensors.numpy import load_file

from mode_core.allocation.records import Allocation
from mode_core.export import export
from mode_core.models import load_model
from mode_core.quantization import quantize_experts
from tests.parity.environments import python_with, run_in

PACKAGES = ("mlx==0.32.4", "mlx-cpu==0.32.4", "mlx-vlm==0.7.10", "mlx-lm==0.32.2", "sentencepiece")
LOAD = """
import os, re, sys
import mlx.core as mx
from mode_core.models import ensure_torchvision
ensure_torchvision()
os.chdir(sys.argv[1])
exec(re.search(r"```python\\n(.*?)```", open("README.md").read(), re.DOTALL)[1])
ids = mx.arange(10, 40)[None]
logits = model(ids, None, None).logits.astype(mx.float32)
layer = model.language_model.model.layers[0].mlp.switch_mlp
bits = mx.array([getattr(getattr(layer, name), "bits", 16) for name in ("gate_proj", "up_proj", "down_proj")])
mx.save_safetensors(sys.argv[2], {"logits": logits, "bits": bits})
"""


def test_mlx_vlm_computes_what_the_quantized_model_computes(packable_model, tmp_path) -> None:
    python = python_with("mlx-vlm", *PACKAGES)
    first, second = packable_model.banks
    bits = {first: torch.tensor([[3, 4]] * 6).numpy(), second: torch.tensor([[2, 8]] * 6).numpy()}
    allocation = Allocation(bits, (2, 3, 4, 8), 0.0, 0.0, False, 0.0, 4.0, unit="projection")
    export("mlx", allocation, tmp_path / "out", loaded=packable_model, group_size=32)
    run_in(python, LOAD, tmp_path / "out", tmp_path / "found.safetensors")
    found = load_file(tmp_path / "found.safetensors")
    assert found["bits"].tolist() == [3, 3, 4]
    ours = load_model(packable_model.source, device="cpu", dtype="float32")
    ids = torch.arange(10, 40)[None]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.no_grad():
        plain = ours.model(**inputs).logits
        with quantize_experts(ours, allocation, group_size=32):
            logits = ours.model(**inputs).logits
    away, damage = (torch.from_numpy(found["logits"]) - logits).abs().max(), (plain - logits).abs().max()
    print(f"logits differ by at most {away:.4f} (quantizing changed them by {damage:.2f})")
    assert away < 0.05 * damage  # mlx-vlm computes in bfloat16
