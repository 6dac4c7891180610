"""What many tests share: a random-weight Qwen3-VL-MoE made on the spot, a few samples, and the bundled model and run.

Seeds are fixed: weights 0, pictures 1.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.families import configs
from tests.families.words import word_level
from tests.forks import forking

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure(config: pytest.Config) -> None:
    """Processes beside each other share the cores: with as many threads each as there are cores, small products wait
    for each other most of the time. What a test starts inherits it.
    """
    beside = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if beside > 1:
        threads = max(1, (os.cpu_count() or 1) // beside)
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
        torch.set_num_threads(threads)


BUNDLED = ROOT / "sample_data"
SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|unknown|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
TEMPLATE = (
    "{%- for message in messages -%}{{- '<|im_start|>' + message.role + '\n' -}}"
    "{%- for part in message.content -%}"
    "{%- if part.type == 'image' -%}{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}"
    "{%- elif part.type == 'video' -%}{{- '<|vision_start|><|video_pad|><|vision_end|>' -}}"
    "{%- else -%}{{- part.text -}}{%- endif -%}{%- endfor -%}{{- '<|im_end|>\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)
TEXT = configs.TEXT | {
    "num_experts": 8,
    "mlp_only_layers": [1],  # a dense layer between the two banks
    "bos_token_id": None,
    **configs.rope(2, 3, 3, mrope_interleaved=True),
}
EYES = configs.QWEN_EYES | {"deepstack_visual_indexes": [0, 1]}


def tiny_tokenizer():
    """A fast word-level tokenizer; line ends are tokens, unknown words share one token."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=word_level(SPECIAL),
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        unk_token="<|unknown|>",
        additional_special_tokens=list(SPECIAL[1:5] + SPECIAL[6:]),
        clean_up_tokenization_spaces=False,
    )


def tiny_processor():
    """A Qwen3-VL processor for pictures of 32 to 64 pixels a side (16 to 64 vision tokens)."""
    from transformers import Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

    size = {"shortest_edge": 16 * 16, "longest_edge": 64 * 64}
    common = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2, "size": size}
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(**common),
        tokenizer=tiny_tokenizer(),
        video_processor=Qwen3VLVideoProcessor(**common),
        chat_template=TEMPLATE,
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes share the tests: one file stays in one process; what starts programs that keep all cores
    busy (browsers, the README's commands) comes one after another, and first, as it takes longest; and what runs in
    forks shares the process that they come from."""
    forked = {item.path for item in items if "forks" in getattr(item, "fixturenames", ())}
    groups = {}
    for item in items:
        busy = item.get_closest_marker("browser") or item.path.name in ("test_readme.py", "test_kills.py")
        groups[item] = "0 busy" if busy else "1 forks" if item.path in forked else item.path.name
        item.add_marker(pytest.mark.xdist_group(groups[item]))
    items.sort(key=lambda item: groups[item] if groups[item][0].isdigit() else "2")


@pytest.fixture(scope="session")
def forks(tmp_path_factory):
    """Runs code in forks of one process that has imported torch and transformers (`tests.forks`)."""
    if sys.platform == "win32":
        pytest.skip("there are no forks")
    with forking(tmp_path_factory.mktemp("forks")) as process:
        yield process


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory) -> Path:
    """A saved Qwen3-VL-MoE with random weights: 2 banks × 8 experts, hidden 64, intermediate 24, top-2."""
    return save_tiny_model(tmp_path_factory.mktemp("tiny") / "tiny-qwen3-vl-moe")


def save_tiny_model(folder: Path) -> Path:
    """Make the model of `tiny_model_folder` there."""
    from mode_core.models import ensure_torchvision

    ensure_torchvision()
    from transformers import Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration

    config = Qwen3VLMoeConfig(
        text_config=TEXT,
        vision_config=EYES,
        image_token_id=SPECIAL.index("<|image_pad|>"),
        video_token_id=SPECIAL.index("<|video_pad|>"),
        vision_start_token_id=SPECIAL.index("<|vision_start|>"),
        vision_end_token_id=SPECIAL.index("<|vision_end|>"),
    )
    torch.manual_seed(0)
    model = Qwen3VLMoeForConditionalGeneration(config).float()
    with torch.no_grad():  # wide enough that routing is not degenerate
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter.normal_(0.0, 0.1)
    model.save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tiny_model_folder):
    """The same, loaded by the project's own loader. Shared: a test that changes weights must restore them."""
    from mode_core.models import load_model

    return load_model(tiny_model_folder, device="cpu")


@pytest.fixture(scope="session")
def packable_model(tmp_path_factory):
    """A random Qwen3-VL-MoE in bfloat16: 2 banks × 6 experts of 96 × 64, which fill whole 32-bit words; seed 5."""

    from mode_core.models import ensure_torchvision, load_model

    ensure_torchvision()
    from transformers import Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration

    text = TEXT | {"moe_intermediate_size": 96, "num_hidden_layers": 2, "mlp_only_layers": [], "num_experts": 6}
    tokens = {f"{kind}_token_id": SPECIAL.index(f"<|{kind}_pad|>") for kind in ("image", "video")}
    tokens |= {f"vision_{end}_token_id": SPECIAL.index(f"<|vision_{end}|>") for end in ("start", "end")}
    torch.manual_seed(5)
    model = Qwen3VLMoeForConditionalGeneration(Qwen3VLMoeConfig(text_config=text, vision_config=EYES, **tokens))
    folder = tmp_path_factory.mktemp("packable") / "model"
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter.normal_(0.0, 0.1)
    model.bfloat16().save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return load_model(folder, device="cpu")


def packable_allocation(loaded, widths: tuple[int, ...], by_projection: bool = True, seed: int = 2):
    """Widths drawn for every expert, or every projection of one, of a loaded model."""
    from mode_core.allocation.records import Allocation

    draw = np.random.default_rng(seed)
    shape = (2,) if by_projection else ()
    bits = {name: draw.choice(widths, (bank.experts, *shape)) for name, bank in loaded.banks.items()}
    unit = "expert_projection" if by_projection else "expert"
    return Allocation(bits, widths, 0.0, 0.0, False, 0.0, 5.0, unit=unit)


def drawn_picture(width: int, height: int, draw: np.random.Generator):
    """A plain background with one coloured rectangle."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (width, height), tuple(int(v) for v in draw.integers(180, 256, 3)))
    left, top = int(draw.integers(0, width // 2)), int(draw.integers(0, height // 2))
    colour = tuple(int(v) for v in draw.integers(0, 160, 3))
    ImageDraw.Draw(picture).rectangle([left, top, left + width // 3, top + height // 3], fill=colour)
    return picture


@pytest.fixture(scope="session")
def tiny_samples(tmp_path_factory) -> list:
    """Six samples with pictures of different sizes and questions of different lengths, and two without pictures."""
    from mode_core.samples import ImageSource, Sample

    draw = np.random.default_rng(1)
    folder = tmp_path_factory.mktemp("tiny-samples")
    questions = (
        "what colour is the circle ?",
        "how many circle are there ?",
        "is it red ?",
        "what colour is the square , red green blue ?",
        "are there a circle a square a triangle ?",
        "what is it ?",
    )
    sizes = ((32, 32), (64, 32), (48, 48), (64, 64), (32, 64), (40, 56))
    samples = []
    for number, (question, (width, height)) in enumerate(zip(questions, sizes, strict=True)):
        path = folder / f"picture-{number}.png"
        drawn_picture(width, height, draw).save(path)
        text = {"role": "user", "content": f"<image>{question}"}
        samples.append(Sample((ImageSource(path.name, path),), (text,), "red", "colour", id=f"picture-{number}"))
    for number, question in enumerate(("is the circle red ?", "how many colour are there , 1 2 3 ?")):
        samples.append(Sample((), ({"role": "user", "content": question},), "yes", "text", id=f"text-{number}"))
    return samples


@pytest.fixture(scope="session")
def bundled_run():
    """The run that comes with the repository."""
    from mode_core.run import Run

    if not (BUNDLED / "run" / "run.json").is_file():
        pytest.skip("sample_data/run is not there yet; 'python -m mode_core calibrate --out sample_data/run' makes it")
    return Run.open(BUNDLED / "run")


@pytest.fixture(scope="session")
def bundled_model():
    """The trained model that comes with the repository."""
    from mode_core.models import load_model

    if not (BUNDLED / "model" / "config.json").is_file():
        pytest.skip("sample_data/model is not there yet; 'python -m sample_data.train' makes it")
    return load_model(BUNDLED / "model", device="cpu")
