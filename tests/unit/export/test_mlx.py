"""MLX's layout: by MLX itself where it is installed, and by a reader of our own."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mode_core.allocation.records import Allocation
from mode_core.export import ExportError, export
from mode_core.quantization import quantize_experts
from tests.packed import read_bits

GROUP = 32
PATH = "language_model.model.layers.{}.mlp.switch_mlp.{}_proj"


def by_projection(loaded, widths) -> Allocation:
    """A width for gate and up and one for down of each bank: `widths[bank]` is the pair."""
    bits = {
        name: np.tile(pair, (bank.experts, 1)) for (name, bank), pair in zip(loaded.banks.items(), widths, strict=True)
    }
    return Allocation(bits, (2, 3, 4, 5, 6, 8, 16), 0.0, 0.0, False, 0.0, 4.0, unit="projection")


@pytest.fixture(params=[((2, 3), (4, 5)), ((6, 8), (16, 3))], ids=str)
def allocation(request, packable_model) -> Allocation:
    return by_projection(packable_model, request.param)


@pytest.mark.parametrize("symmetric", [True, False])
def test_weights_are_scale_times_code_plus_bias(packable_model, allocation, tmp_path, symmetric) -> None:
    grid = {"group_size": GROUP, "symmetric": symmetric}
    export("mlx", allocation, tmp_path / "out", loaded=packable_model, **grid)
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    settings = json.loads((tmp_path / "out" / "config.json").read_text())["quantization"]
    quantized = quantize_experts(packable_model, allocation, **grid)
    quantized.restore()
    for layer, (name, bank) in enumerate(packable_model.banks.items()):
        for projection in bank.projections:
            path = PATH.format(layer, projection)
            width = int(allocation.bits[name][0, int(projection == "down")])
            if width == 16:
                assert settings[path] is False
                assert torch.equal(tensors[f"{path}.weight"], bank.stacked(projection))
                continue
            assert settings[path] == {"group_size": GROUP, "bits": width}
            words = tensors[f"{path}.weight"].view(torch.int32).numpy()
            scales, biases = (tensors[f"{path}.{part}"].float().numpy() for part in ("scales", "biases"))
            codes = np.stack([[read_bits(row, width) for row in matrix] for matrix in words])
            found = codes * scales.repeat(GROUP, -1) + biases.repeat(GROUP, -1)
            expected = np.stack(
                [quantized.packed[name, e, projection].dequantize().numpy() for e in range(bank.experts)]
            )
            # symmetric biases are a power of two times the scale; asymmetric ones are rounded to float16 once
            np.testing.assert_allclose(found, expected, rtol=0, atol=0 if symmetric else np.abs(biases).max() * 2**-11)


@pytest.mark.parametrize("symmetric", [True, False])
def test_mlx_s_own_dequantize(packable_model, allocation, tmp_path, symmetric) -> None:
    mx = pytest.importorskip("mlx.core", reason="MLX is not installed (pip install 'mlx[cpu]'; on Linux glibc 2.35)")
    grid = {"group_size": GROUP, "symmetric": symmetric}
    export("mlx", allocation, tmp_path / "out", loaded=packable_model, **grid)
    stored = mx.load(str(tmp_path / "out" / "model.safetensors"))
    settings = json.loads((tmp_path / "out" / "config.json").read_text())["quantization"]
    quantized = quantize_experts(packable_model, allocation, **grid)
    quantized.restore()
    for layer, (name, bank) in enumerate(packable_model.banks.items()):
        for projection in bank.projections:
            path = PATH.format(layer, projection)
            if settings[path] is False:
                continue
            own = [stored[f"{path}.{part}"] for part in ("weight", "scales", "biases")]
            found = np.array(mx.dequantize(*own, **settings[path]).astype(mx.float32))
            for expert in range(bank.experts):
                expected = quantized.packed[name, expert, projection].dequantize()
                largest = float(expected.abs().max())
                # MLX computes scale·code + bias in float16, whose steps at that size are 2^-10 of it at most
                np.testing.assert_allclose(found[expert], expected.numpy(), rtol=0, atol=2 * largest * 2**-10)


def test_the_paths_alone(packable_model, tmp_path) -> None:
    allocation = by_projection(packable_model, ((2, 3), (16, 4)))
    export("mlx_config", allocation, tmp_path / "out", loaded=packable_model, group_size=GROUP)
    settings = json.loads((tmp_path / "out" / "quantization.json").read_text())
    paths = {PATH.format(layer, projection) for layer in (0, 1) for projection in ("gate", "up", "down")}
    assert set(settings) == paths | {"group_size", "bits", "mode"}
    assert settings[PATH.format(0, "down")] == {"group_size": GROUP, "bits": 3}
    assert settings[PATH.format(1, "up")] is False
    with pytest.raises(ExportError, match="groups of 32, 64, 128 channels, not of 16"):
        export("mlx_config", allocation, tmp_path / "other", loaded=packable_model, group_size=16)
