"""What an export from a folder holds in memory does not grow with the number of layers and shards."""

import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from mode_core.allocation.records import Allocation
from mode_core.export import export, weights
from mode_core.export.shards import ShardWriter
from mode_core.models.checkpoint_files import CheckpointFiles
from tests.conftest import EYES, SPECIAL, TEXT

SHARD = 40_000


def made(folder: Path, layers: int) -> Path:
    """A checkpoint of some layers with 6 experts of 96 × 64 each; random weights, seed 5."""
    from mode_core.models import ensure_torchvision

    ensure_torchvision()
    from transformers import Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration

    text = TEXT | {"moe_intermediate_size": 96, "num_hidden_layers": layers, "mlp_only_layers": [], "num_experts": 6}
    torch.manual_seed(5)
    tokens = {f"{kind}_token_id": SPECIAL.index(f"<|{kind}_pad|>") for kind in ("image", "video")}
    config = Qwen3VLMoeConfig(text_config=text, vision_config=EYES, **tokens)
    Qwen3VLMoeForConditionalGeneration(config).bfloat16().save_pretrained(folder, max_shard_size="100KB")
    return folder


class Alive:
    """Bytes of what was read or handed on and is not let go yet; `most` over all tensors that were handed on."""

    def __init__(self) -> None:
        self._held: list[tuple[weakref.ref, int]] = []
        self.most = self.written = 0

    def watch(self, thing: object, size: int) -> None:
        self._held.append((weakref.ref(thing), size))

    def look(self) -> None:
        self._held = [(ref, size) for ref, size in self._held if ref() is not None]
        self.most = max(self.most, sum(size for _, size in self._held))


@pytest.fixture
def alive(monkeypatch) -> Iterator[Alive]:
    """Watches every tensor that is read, and every one that is written."""
    seen = Alive()
    read, add = CheckpointFiles.read, ShardWriter.add

    def reading(self, *arguments):
        tensor = read(self, *arguments)
        seen.watch(tensor, tensor.nbytes)
        return tensor

    def adding(self, name, tensor):
        seen.watch(tensor, tensor.nbytes)
        seen.written += tensor.nbytes
        seen.look()
        add(self, name, tensor)

    monkeypatch.setattr(CheckpointFiles, "read", reading)
    monkeypatch.setattr(ShardWriter, "add", adding)
    monkeypatch.setattr(weights, "CHUNK", 2 * 3 * 96 * 64)  # two experts at once
    yield seen


@pytest.mark.parametrize("target", ["auto_round", "dequantized"])
def test_memory_does_not_grow_with_the_number_of_layers(tmp_path, alive, target) -> None:
    most, written, files = [], [], []
    for layers in (2, 8):
        source = made(tmp_path / f"model-{layers}", layers)
        draw = np.random.default_rng(1)
        bits = {f"model.language_model.layers.{n}.mlp.experts": draw.choice([2, 3, 4], 6) for n in range(layers)}
        allocation = Allocation(bits, (2, 3, 4), 0.0, 0.0, False, 0.0, 3.0)
        alive.most = alive.written = 0
        out = tmp_path / f"{target}-{layers}"
        export(target, allocation, out, checkpoint=source, group_size=32, shard_bytes=SHARD)
        most.append(alive.most)
        written.append(alive.written)
        files.append(len(list(out.glob("*.safetensors"))))
    assert files[1] > files[0] + 4
    assert written[1] > 2 * written[0]
    assert most[1] <= 1.05 * most[0]
    assert most[1] < 0.5 * written[1]
