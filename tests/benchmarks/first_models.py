"""What the models to begin with take: bytes and the estimate of memory by configuration, and a check by measuring.

    python -m tests.benchmarks.first_models
    python -m tests.benchmarks.first_models --measure deepseek_ocr2 [--samples 2] [--bits 3] [--folder /tmp]

The first prints, for each, its size and what the Calibrate page would say before a start. The second writes a made-up
checkpoint of that shape (random bfloat16, the family's processor at its published sizes around the tests' tokenizer),
calibrates it through the command line in a process of its own, prints peak memory beside the estimate and the pace, and
deletes it. No published weights are read.
"""

from __future__ import annotations

import argparse
import json
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


def configured(name: str, folder: Path) -> Path:
    """A folder that says what the model is, without weights: enough for the estimate."""
    from mode_core.models import ensure_torchvision

    ensure_torchvision()
    from transformers import CONFIG_MAPPING

    CONFIG_MAPPING[name](**MODELS[name], dtype="bfloat16").save_pretrained(folder)
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


def measure(name: str, place: Path, samples: int, bits: list[int]) -> None:
    """Calibrate the made-up checkpoint; print what it took beside the estimate."""
    folder, table = filled(name, configured(name, place / "model")), pages(place, samples)
    print("estimate in GB:", {key: round(value, 2) for key, value in estimates(folder, bits=tuple(bits)).items()})
    command = [sys.executable, "-m", "mode_core", "calibrate", "--model", str(folder), "--samples", str(table)]
    command += ["--out", str(place / "run"), "--device", "cpu", "--batch-size", "1", "--no-anchor"]
    command += ["--no-gradients", "--quiet", "--json"]
    uncache(folder)
    code, peaks, seconds = watched([*command, "--measure-bits", *map(str, bits)], 1 << 60, None)
    print(f"{name}: exit code {code}, {seconds:.0f} s. Peaks in GB:", {k: round(v / 1e9, 2) for k, v in peaks.items()})
    info = json.loads((place / "run" / "run.json").read_text(encoding="utf-8"))
    print(f"tokens {info['tokens']}, {info['seconds']:.1f} s of measuring")


def main() -> None:
    """Print the estimates, or measure one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", choices=("deepseek_ocr2", "unlimited_ocr"))
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--bits", type=int, nargs="+", default=[3])
    parser.add_argument("--folder", default=None, help="where the checkpoint goes meanwhile")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="first-models-", dir=options.folder) as place:
        if options.measure:
            measure(options.measure, Path(place), options.samples, options.bits)
        for name in () if options.measure else MODELS:
            found = estimates(configured(name, Path(place) / name))
            print(name, {key: round(value, 2) for key, value in found.items()})


if __name__ == "__main__":
    main()
