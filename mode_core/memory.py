"""Will it fit: the memory of a GPU, divided between the experts, the rest of the model and the cache of a conversation.

Sizes are in bytes; GPUs are named by their GiB (2^30 bytes), as their makers do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mode_core.errors import SettingsError

GIB = 1 << 30
GPUS = {  # GiB -> common cards that have so much; their makers write GB
    8: "RTX 4060, RTX 3070",
    12: "RTX 4070, RTX 3060",
    16: "RTX 5080, RTX 4080, T4, V100",
    24: "RTX 4090, RTX 3090, L4, A10",
    32: "RTX 5090, V100",
    40: "A100 40 GB",
    48: "L40S, A6000, RTX 6000 Ada",
    80: "H100, A100 80 GB",
    96: "RTX PRO 6000, H100 NVL",
    141: "H200",
}
RESERVE = 0.06  # share of a card that drivers, activations and fragments take; an assumption, shown as such


@dataclass(frozen=True)
class Fit:
    """How a card's memory is divided, in bytes; `free` is negative where it does not fit."""

    card: int
    reserve: int
    rest: int
    cache: int
    experts: int

    @property
    def for_experts(self) -> int:
        """What is left for the routed experts; negative where the others alone are too large."""
        return self.card - self.reserve - self.rest - self.cache

    @property
    def free(self) -> int:
        """What remains beside these experts."""
        return self.for_experts - self.experts


def fit(gibibytes: float, rest: int, cache: int, experts: int, reserve: float = RESERVE) -> Fit:
    """Divide a card of so many GiB; see `Fit`."""
    card = round(gibibytes * GIB)
    return Fit(card, round(card * reserve), int(rest), int(cache), int(experts))


def kv_cache_bytes(config: Any, tokens: int, element_bytes: int = 2, conversations: int = 1) -> int:
    """Bytes of keys and values for `tokens` positions in each of so many conversations.

    `config` is a model's configuration (transformers' object, or the dictionary of its config.json, then with all
    fields written out). A layer holds keys and values of every KV head; a latent-attention layer (DeepSeek, Kimi)
    one compressed row and the rotary part; layers with a sliding window at most the window; linear-attention layers
    nothing that grows, so their constant state is left out.

    Raises:
        SettingsError: a configuration that tells no number of layers or heads.
    """
    text = _text(config)
    layers = _number(text, "num_hidden_layers")
    kinds = text.get("layer_types") or ["full_attention"] * layers
    window = text.get("sliding_window") if text.get("use_sliding_window", True) else None
    total = 0
    for kind in list(kinds)[:layers]:
        if "linear" in kind or "mamba" in kind or "conv" in kind:
            continue
        seen = min(tokens, window) if "sliding" in kind and window else tokens
        total += seen * _row(text)
    return total * element_bytes * conversations


def _row(text: Mapping[str, Any]) -> int:
    """Numbers that one layer keeps for one position."""
    if text.get("kv_lora_rank"):
        return int(text["kv_lora_rank"]) + int(text.get("qk_rope_head_dim") or 0)
    heads = _number(text, "num_attention_heads")
    each = text.get("head_dim") or _number(text, "hidden_size") // heads
    return 2 * int(text.get("num_key_value_heads") or heads) * int(each)


def _text(config: Any) -> Mapping[str, Any]:
    """The language model's part, as a dictionary."""
    if hasattr(config, "get_text_config"):
        config = config.get_text_config()
    whole = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    for name in ("text_config", "llm_config", "language_config"):
        if isinstance(whole.get(name), Mapping):
            return whole[name]
    return whole


def _number(text: Mapping[str, Any], name: str) -> int:
    value = text.get(name)
    if not isinstance(value, int) or value < 1:
        raise SettingsError(
            f"The model's configuration tells no {name} (found {value!r}), so no cache can be estimated."
        )
    return value


def around_experts(folder: Path) -> int | None:
    """Bytes of what surrounds the routed experts, as a checkpoint's safetensors files store it, by their headers alone;
    None where there are none. Told by name: what lies below a step "experts" is a routed expert's.

    Raises:
        SettingsError: a file that is no safetensors file.
    """
    if not (files := sorted(folder.glob("*.safetensors"))):
        return None
    total = 0
    for file in files:
        for name, tensor in _header(file).items():
            if name != "__metadata__" and "experts" not in name.split("."):
                begin, end = tensor["data_offsets"]
                total += end - begin
    return total


def _header(file: Path) -> dict[str, Any]:
    """The names and places of a safetensors file's tensors: JSON behind eight bytes that tell its length."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        try:
            if length > 100_000_000:
                raise ValueError(length)
            return dict(json.loads(opened.read(length)))
        except ValueError:
            raise SettingsError(f"{file.name} is no safetensors file: its header cannot be read.") from None
