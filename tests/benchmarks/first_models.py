"""What the models to begin with take: bytes, the estimate of memory and of time, and a check by measuring.

    python -m tests.benchmarks.first_models [--bits 1 2 3 4]
    python -m tests.benchmarks.first_models --measure deepseek_ocr2 [--layers 12] [--samples 2] [--bits 3]

The first prints, for each, its size, what the Calibrate page would say before a start, and seconds of one thread: once
for the search of every expert's scales, and for each sample of 100 text and 900 vision tokens. They are counted from
the configuration and what this machine takes for one expert of that shape and for one product of its other layers,
without gradients; attention's own products, reading files and preparing pictures are left out.

The second writes a made-up checkpoint of that shape (random bfloat16, the family's processor at its published sizes
around the tests' tokenizer) with so many layers, calibrates it through the command line in a process of its own, prints
peak memory and seconds beside the estimates, and deletes it. No published weights are read.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.calibrate_offload import uncache, watched
from tests.families.words import IMAGE

TEXT = {  # of both readers of documents: DeepSeek-3B-MoE
    "vocab_size": 129280,
    "hidden_size": 1280,
    "intermediate_size": 6848,
    "num_hidden_layers": 12,
    "num_attention_heads": 10,
    "num_key_value_heads": 10,
    "max_position_embeddings": 32768,
    "moe_intermediate_size": 896,
    "n_routed_experts": 64,
    "n_shared_experts": 2,
    "num_experts_per_tok": 6,
    "mlp_layer_types": ["dense", *["sparse"] * 11],
}
QWEN2_EYES = {  # Qwen2-0.5B in the place of CLIP
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
}
QWEN3_TEXT = {
    "vocab_size": 151936,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 48,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "moe_intermediate_size": 768,
    "num_experts": 128,
    "num_experts_per_tok": 8,
}
MODELS: dict[str, dict[str, Any]] = {
    "deepseek_ocr2": {"text_config": TEXT, "vision_config": {"encoder_config": QWEN2_EYES}, "image_token_id": IMAGE},
    "unlimited_ocr": {"text_config": TEXT, "image_token_id": IMAGE},
    "qwen3_vl_moe": {
        "text_config": QWEN3_TEXT,
        "vision_config": {"out_hidden_size": 2048, "deepstack_visual_indexes": [8, 16, 24]},
    },
}
POSITIONS = {  # of a part of the vision encoder for every vision token that comes out of it; the first that matches
    "sam_encoder": 16,
    "vision_encoder.layers": 2,  # as many queries as tokens
    "vision_encoder.encoder": 1,
    "visual.blocks": 4,
    "visual": 1,
}
PAGE = {"text": 100, "vision": 900}


def configured(name: str, folder: Path, layers: int | None = None) -> Path:
    """A folder that says what the model is, without weights: enough for the estimate."""
    from mode_core.models import ensure_torchvision

    ensure_torchvision()
    from transformers import CONFIG_MAPPING

    sizes = dict(MODELS[name])
    if layers is not None:
        sizes["text_config"] = sizes["text_config"] | {"num_hidden_layers": layers}
        if kinds := sizes["text_config"].get("mlp_layer_types"):
            sizes["text_config"]["mlp_layer_types"] = kinds[:layers]
    CONFIG_MAPPING[name](**sizes, dtype="bfloat16").save_pretrained(folder)
    (folder / "model.safetensors").touch()
    return folder


def filled(name: str, folder: Path) -> Path:
    """The same with random weights and a processor that cuts pictures as the published one does. Memory: the model."""
    import torch
    from transformers import DeepseekOcr2ImageProcessor, UnlimitedOcrImageProcessor

    from mode_core.models.outline import built, configuration
    from tests.families.processors import PROCESSORS

    model = built(name, configuration(str(folder))).to_empty(device="cpu")
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            plain = parameter.dim() < 2
            parameter.fill_(float("norm" in key and key.endswith("weight"))) if plain else parameter.normal_(
                0, 0.02, generator=draw
            )
        for module in model.modules():  # buffers that are computed, not stored
            if hasattr(module, "compute_default_rope_parameters"):
                module.inv_freq.copy_(type(module)(module.config).inv_freq)
            if (places := getattr(module, "position_ids", None)) is not None:
                places.copy_(torch.arange(places.shape[-1]).expand_as(places))
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder)
    processor = PROCESSORS[name]()
    kinds = {"deepseek_ocr2": DeepseekOcr2ImageProcessor, "unlimited_ocr": UnlimitedOcrImageProcessor}
    processor.image_processor, processor.patch_size = kinds[name](), 16
    processor.save_pretrained(folder)
    return folder


def pages(folder: Path, count: int) -> Path:
    """Made-up pages of 900 × 700 pixels, each with a question."""
    import numpy as np
    from PIL import Image

    draw, lines = np.random.default_rng(0), []
    for number in range(count):
        Image.fromarray(draw.integers(0, 255, (900, 700, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        lines.append(json.dumps({"id": str(number), "image": f"{number}.png", "text": "what colour is it ?"}))
    (folder / "pages.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder / "pages.jsonl"


def estimates(folder: Path, **changed: Any) -> dict[str, float]:
    """Billions of parameters, and gigabytes: the weights, and the estimate without and with gradients."""
    from dashboard.jobs.forecast import estimate_memory, outlined
    from mode_core.calibration import CalibrationSettings

    _, parameters = outlined(str(folder))
    asked = {"plain": CalibrationSettings(**changed), "gradients": CalibrationSettings(gradients=True, **changed)}
    return {
        "parameters": sum(p.numel() for p in parameters) / 1e9,
        "weights": sum(p.nbytes for p in parameters) / 1e9,
    } | {kind: estimate_memory(str(folder), settings).least / 1e9 for kind, settings in asked.items()}


def seconds(folder: Path, bits: tuple[int, ...], tokens: dict[str, int]) -> tuple[float, float]:
    """Of one thread: once, and for every sample of so many text and vision tokens."""
    import torch

    from mode_core.calibration import CalibrationSettings
    from mode_core.calibration.sensitivity import RoundedBank
    from mode_core.models import find_banks
    from mode_core.models.outline import outline
    from tests.benchmarks.calibrate_overhead import timed
    from tests.benchmarks.calibrate_sensitivity import POOLED, bank_of

    model, settings, rows = outline(str(folder)), CalibrationSettings(bits=bits, stack_bytes=0), 64
    banks, held = find_banks(model), {}
    shape = next(iter(banks.values()))
    one = bank_of(1, hidden_size=shape.hidden, moe_intermediate_size=shape.intermediate)
    states, chosen = torch.randn(rows, shape.hidden).bfloat16(), torch.zeros(rows, 1, dtype=torch.long)
    weights = torch.ones(rows, 1).bfloat16()
    search = timed(lambda: held.update(rounded=RoundedBank.of(one, settings, stack=False)))
    works = {
        "expert": lambda: one.module(states, chosen, weights),
        "errors": lambda: held["rounded"].errors([(states, chosen, weights)] * POOLED),
        "product": lambda: torch.nn.functional.linear(
            states.repeat(8, 1), torch.ones(4 * shape.hidden, shape.hidden).bfloat16()
        ),
    }
    took = {name: min(timed(work) for _ in range(3)) for name, work in works.items()}
    once = search * sum(bank.experts for bank in banks.values())
    pace = 8 * rows * 4 * shape.hidden**2 / took["product"]  # weights times positions a second
    others = 0.0
    for key, parameter in model.named_parameters():
        if parameter.dim() > 1 and ".experts." not in key and "embed" not in key:
            vision = next((each * tokens["vision"] for part, each in POSITIONS.items() if part in key), None)
            others += parameter.numel() * (sum(tokens.values()) if vision is None else vision)
    routed = sum(tokens.values()) * sum(bank.top_k for bank in banks.values())
    return once, others / pace + routed * (took["expert"] + took["errors"] / POOLED) / rows


def measure(name: str, place: Path, samples: int, bits: list[int], layers: int | None) -> None:
    """Calibrate the made-up checkpoint; print what it took beside the estimate."""
    folder, table = filled(name, configured(name, place / "model", layers)), pages(place, samples)
    print("estimate in GB:", {key: round(value, 2) for key, value in estimates(folder, bits=tuple(bits)).items()})
    command = [sys.executable, "-m", "mode_core", "calibrate", "--model", str(folder), "--samples", str(table)]
    command += ["--out", str(place / "run"), "--device", "cpu", "--batch-size", "1", "--no-anchor"]
    command += ["--no-gradients", "--quiet", "--json"]
    uncache(folder)
    before = os.times()
    code, peaks, wall = watched([*command, "--measure-bits", *map(str, bits)], 1 << 60, None)
    spent = sum(os.times()[2:4]) - sum(before[2:4])
    print(f"{name}: exit code {code}, {wall:.0f} s. Peaks in GB:", {k: round(v / 1e9, 2) for k, v in peaks.items()})
    info = json.loads((place / "run" / "run.json").read_text(encoding="utf-8"))
    each = {kind: info["tokens"].get(kind, 0) // samples for kind in PAGE}
    once, page = seconds(folder, tuple(bits), each)
    print(f"tokens {info['tokens']}, {info['seconds']:.1f} s of measuring, {spent:.0f} s of processor time")
    print(f"estimate: {once:.0f} s once, {page:.1f} s a page, {once + samples * page:.0f} s together")


def main() -> None:
    """Print the estimates, or measure one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", choices=("deepseek_ocr2", "unlimited_ocr"))
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--layers", type=int, help="fewer than the model has")
    parser.add_argument("--bits", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--folder", default=None, help="where the checkpoint goes meanwhile")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="first-models-", dir=options.folder) as place:
        if options.measure:
            measure(options.measure, Path(place), options.samples, options.bits, options.layers)
        for name in () if options.measure else MODELS:
            folder = configured(name, Path(place) / name)
            print(name, {key: round(value, 2) for key, value in estimates(folder).items()})
            once, page = seconds(folder, tuple(options.bits), PAGE)
            print(f"  {once:.0f} s once, {page:.1f} s a sample")


if __name__ == "__main__":
    main()
