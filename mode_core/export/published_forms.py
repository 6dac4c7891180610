"""Families whose published checkpoints transformers does not write as they were published, and what is put right.

transformers 5 turns the fused experts of these families round when it loads them, and leaves them turned when it saves
(`Transpose(check_dims=True)` in its `conversion_mapping`; a test compares this table with it). Engines read the
published form alone: vLLM refuses the turned one, and llama.cpp's converter takes it with wrong shapes.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Published:
    """How a family's checkpoints lie on the hub: fused experts `[E, in, out]`, and what `text_config` says beside."""

    example: str
    text: MappingProxyType[str, object]


PUBLISHED: dict[str, Published] = {  # by model_type
    # norm_topk_prob: transformers 5 always normalizes the routing weights of this family and saves no such setting
    "qwen3_vl_moe": Published("Qwen/Qwen3-VL-30B-A3B-Instruct", MappingProxyType({"norm_topk_prob": True})),
}
