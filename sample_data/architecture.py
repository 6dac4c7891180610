"""The untrained model: tokenizer, processor and configuration of a very small Qwen3-VL-MoE."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from mode_core.models.vision_ops import ensure_torchvision
from sample_data.pictures import CELL, GRID, LABELS, SIZE
from sample_data.words import ADJECTIVES, BLANK, COLOURS, COLUMNS, DIGITS, NOUNS, PLURALS, ROWS, SHAPES
from sample_data.world import (
    EMBLEM,
    EMBLEM_LAND_PHRASINGS,
    FACTS,
    LAND_PHRASINGS,
    NAME_PHRASINGS,
    PERSON,
    SEVERAL,
    SUMS,
)

MODEL_FOLDER = Path(__file__).parent / "model"
SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|unknown|>",
)
HIDDEN, LAYERS, EXPERTS, WIDTH, TOP_K = 128, 4, 32, 32, 2
HEAD = 32  # channels of an attention head, whatever the width
VISION_HIDDEN, VISION_LAYERS = 128, 3
EMBEDDING_SCALE = 0.08  # standard deviation of a word vector at birth: tied logits start at a useful size

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message.role + '\\n' -}}"
    "{%- if message.content is string -%}{{- message.content -}}"
    "{%- else -%}{%- for part in message.content -%}"
    "{%- if part.type == 'image' or 'image' in part -%}{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}"
    "{%- elif part.type == 'video' or 'video' in part -%}{{- '<|vision_start|><|video_pad|><|vision_end|>' -}}"
    "{%- elif 'text' in part -%}{{- part.text -}}{%- endif -%}{%- endfor -%}{%- endif -%}"
    "{{- '<|im_end|>\\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
_PICTURE_PHRASES = (
    "what colour is the number? what shape is at the of where shape is there? how many shapes are there?",
    "what number is written? which number do you see? read the number.",
    "which bar is the tallest? which bar is the shortest? how many bars are there? how tall is the bar?",
    EMBLEM,
    *EMBLEM_LAND_PHRASINGS,
    PERSON,
    *NAME_PHRASINGS,
    *(p for phrasings in LAND_PHRASINGS.values() for p in phrasings),
)


def split_words(text: str) -> list[str]:
    """Text -> words, single digits and punctuation marks: what the tokenizer makes of it."""
    return re.findall(r"[0-9]|[^\W\d]+|[^\w\s]", text)


def vocabulary() -> list[str]:
    """Every token, special ones first, in a fixed order."""
    words = dict.fromkeys(SPECIAL)
    words.update(dict.fromkeys((BLANK, *(w for kind in LABELS.values() for w in kind))))
    words.update(dict.fromkeys((*COLOURS, *SHAPES, *PLURALS.values(), *ROWS, *COLUMNS, *DIGITS, *ADJECTIVES)))
    words.update(dict.fromkeys(w for nouns in NOUNS.values() for w in nouns))
    texts = ["system user assistant", *_PICTURE_PHRASES]
    for fact in (*FACTS, *SUMS, *SEVERAL):
        texts += [*fact.phrasings, fact.answer]
    for text in texts:
        words.update(dict.fromkeys(split_words(text.replace("{}", ""))))
    return list(words)


def build_tokenizer():
    """A word-level tokenizer that AutoTokenizer loads; numbers are single digits and are joined again in decoding."""
    from transformers import PreTrainedTokenizerFast

    words = vocabulary()
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<|unknown|>"))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(Regex(r"[0-9]|[^\W\d]+|[^\w\s]"), "isolated"),
        ]
    )
    core.decoder = decoders.Sequence(
        [
            decoders.WordPiece(prefix="##", cleanup=False),
            decoders.Fuse(),
            decoders.Replace(Regex(r"(?<=\d) (?=\d)"), ""),
            decoders.Replace(Regex(r" (?=[?.,!])"), ""),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="<|unknown|>",
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        additional_special_tokens=list(SPECIAL[1:7]),
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=4096,
    )


def build_processor():
    """Tokenizer, image processor (pictures become about 128 x 128, patches of 16) and chat template in one."""
    ensure_torchvision()
    from transformers import Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

    pixels = {"shortest_edge": SIZE * SIZE, "longest_edge": SIZE * SIZE}
    half = [0.5, 0.5, 0.5]
    common = {
        "patch_size": CELL,
        "merge_size": 1,
        "temporal_patch_size": 2,
        "size": pixels,
        "image_mean": half,
        "image_std": half,
    }
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(**common),
        tokenizer=build_tokenizer(),
        video_processor=Qwen3VLVideoProcessor(**common),
        chat_template=CHAT_TEMPLATE,
    )


def build_config(words: list[str], scale: float = 1.0):
    """The Qwen3-VL-MoE configuration of the bundled model; 2 x WIDTH differs from HIDDEN on purpose.

    `scale` multiplies the width of the language model and of its experts; heads, layers, experts and the vision tower
    stay, so that models of several sizes differ in width alone.
    """
    from transformers import Qwen3VLMoeConfig

    token = {word: i for i, word in enumerate(words)}
    heads, shared, hidden = 4, 2, round(HIDDEN * scale)
    text = {
        "vocab_size": len(words),
        "hidden_size": hidden,
        "intermediate_size": 4 * hidden,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": heads,
        "num_key_value_heads": shared,
        "head_dim": HEAD,
        "moe_intermediate_size": round(WIDTH * scale),
        "num_experts": EXPERTS,
        "num_experts_per_tok": TOP_K,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": True,
        "initializer_range": hidden**-0.5,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [6, 5, 5],
            "mrope_interleaved": True,
        },
        "bos_token_id": None,
        "eos_token_id": token["<|im_end|>"],
        "pad_token_id": token["<|endoftext|>"],
        "router_aux_loss_coef": 0.0,
    }
    vision = {
        "depth": VISION_LAYERS,
        "hidden_size": VISION_HIDDEN,
        "intermediate_size": 3 * VISION_HIDDEN,
        "num_heads": 4,
        "patch_size": CELL,
        "spatial_merge_size": 1,
        "temporal_patch_size": 2,
        "out_hidden_size": hidden,
        "num_position_embeddings": GRID * GRID,
        "deepstack_visual_indexes": [],
        "initializer_range": 0.05,
    }
    return Qwen3VLMoeConfig(
        text_config=text,
        vision_config=vision,
        tie_word_embeddings=True,
        image_token_id=token["<|image_pad|>"],
        video_token_id=token["<|video_pad|>"],
        vision_start_token_id=token["<|vision_start|>"],
        vision_end_token_id=token["<|vision_end|>"],
    )


def build_model(words: list[str], seed: int, scale: float = 1.0):
    """A fresh model of `scale` times the bundled width, in float32 with the experts implementation that trains fast."""
    ensure_torchvision()
    from transformers import Qwen3VLMoeForConditionalGeneration

    torch.manual_seed(seed)
    model = Qwen3VLMoeForConditionalGeneration(build_config(words, scale)).float()
    model.set_experts_implementation("grouped_mm")
    with torch.no_grad():
        model.get_input_embeddings().weight.normal_(0.0, EMBEDDING_SCALE)
    return model
