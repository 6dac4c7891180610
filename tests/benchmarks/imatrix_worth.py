"""What an importance matrix is worth to K and IQ types, by where its tokens come from.

    python -m tests.benchmarks.imatrix_worth [--samples 48] [--types IQ2_XS Q2_K Q3_K Q4_K] [--seeds 3]

The bundled model's rows are too short for these types, so the model is made up: the bundled configuration with hidden
and expert sizes of 256, random weights, and norms whose channels differ (lognormal), as those of trained models do. Its
experts are rounded by ggml's own function without a matrix, with one from text tokens alone (what llama-imatrix could
see), with all tokens alike (plain), and without redundant vision tokens (modality). Printed: mean KL of the next token
to the unrounded model on held-out bundled samples with pictures, and the range over seeds. A random model says what the
arithmetic does, not how good a trained model's answers stay.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch

from mode_core.calibration import CalibrationSettings, calibrate
from mode_core.export.ggml_library import ggml_quantize
from mode_core.export.ggml_types import type_named
from mode_core.export.gguf_names import expert_tensor
from mode_core.export.imatrix import as_llama_cpp_names, importance_rows
from mode_core.models import LoadedModel, ensure_torchvision, load_model
from mode_core.run import Run
from mode_core.samples import read_samples
from mode_core.statistics.imatrix import InputEnergies
from tests.llama_cpp import divergence

BUNDLED = Path(__file__).resolve().parents[2] / "sample_data"
WEIGHTS = {"text": (1.0, 0.0, 0.0), "plain": (1.0, 1.0, 1.0), "modality": (1.0, 1.0, 0.0)}
SPREAD = 0.7  # of the logarithms of the norms' channels


def made_up(folder: Path, seed: int) -> LoadedModel:
    """The model, in float32."""
    ensure_torchvision()
    from transformers import AutoProcessor, Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration

    config = json.loads((BUNDLED / "model" / "config.json").read_text())
    config["text_config"] |= {"hidden_size": 256, "moe_intermediate_size": 256, "num_local_experts": 8}
    config["vision_config"]["out_hidden_size"] = 256
    torch.manual_seed(seed)
    model = Qwen3VLMoeForConditionalGeneration(Qwen3VLMoeConfig(**config))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() >= 2:
                parameter.normal_(0.0, 0.08)
            elif "language_model" in name and "layernorm" in name:
                parameter.copy_(torch.exp(SPREAD * torch.randn_like(parameter)))
    model.save_pretrained(folder)
    AutoProcessor.from_pretrained(BUNDLED / "model").save_pretrained(folder)
    return load_model(folder, device="cpu", dtype="float32")


def answers(loaded: LoadedModel, samples: list) -> np.ndarray:
    """Log-probabilities of the next token, `[samples, vocabulary]`."""
    found = []
    for sample in samples:
        with torch.inference_mode():
            found.append(loaded.model(**loaded.encode([sample]).inputs).logits[0, -1].log_softmax(-1).numpy())
    return np.stack(found)


def rounded(loaded: LoadedModel, kind, rows: dict[str, np.ndarray] | None) -> None:
    """Every expert at the values of its blocks."""
    from gguf import GGMLQuantizationType, quants

    for bank in loaded.banks.values():
        for projection in bank.projections:
            own = None if rows is None else rows[expert_tensor(bank.layer, projection)]
            for expert in range(bank.experts):
                matrix = bank.matrix(projection, expert)
                blocks = ggml_quantize(matrix.detach().numpy(), kind, None if own is None else own[expert])
                with torch.no_grad():
                    matrix.copy_(torch.from_numpy(quants.dequantize(blocks, GGMLQuantizationType(kind.id))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=48, help="of the calibration, and of the evaluation")
    parser.add_argument("--types", nargs="+", default=["IQ2_XS", "Q2_K", "Q3_K", "Q4_K"])
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    drawn = {
        name: [s for s in read_samples(BUNDLED / name / "samples.jsonl") if s.images][: options.samples]
        for name in ("calibration", "evaluation")
    }
    found: dict[tuple[str, str], list[float]] = {}
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as place:
            loaded, run = made_up(Path(place) / "model", seed), Run.create(Path(place) / "run")
            settings = CalibrationSettings(sensitivity=False, imatrix=True, exemplars=0, token_scores_for=0)
            statistics = calibrate(loaded, drawn["calibration"], settings, run=run)
            energies = InputEnergies.load(run.path, statistics.samples)
            layers = {bank.name: bank.layer for bank in loaded.banks.values()}
            matrices = {key: importance_rows(as_llama_cpp_names(energies, layers, w)[0]) for key, w in WEIGHTS.items()}
            original = {key: value.clone() for key, value in loaded.model.state_dict().items()}
            reference = answers(loaded, drawn["evaluation"])
            for name in options.types:
                for which, rows in ({"none": None} | matrices).items():
                    if rows is None and type_named(name).needs_imatrix:
                        continue
                    rounded(loaded, type_named(name), rows)
                    loss = divergence(reference, answers(loaded, drawn["evaluation"]))
                    found.setdefault((name, which), []).append(loss)
                    loaded.model.load_state_dict(original)
    print("| type | " + " | ".join(("none", *WEIGHTS)) + " |\n|" + "---|" * (2 + len(WEIGHTS)))
    for name in options.types:
        cells = [found.get((name, which), []) for which in ("none", *WEIGHTS)]
        told = (f"{np.mean(c):.4f} ({min(c):.4f}–{max(c):.4f})" if c else "–" for c in cells)
        print(f"| {name} | " + " | ".join(told) + " |", flush=True)


if __name__ == "__main__":
    main()
