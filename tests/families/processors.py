"""Each family's own processor, made offline around the tiny tokenizer, for pictures of about 32 pixels a side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.families import media_processors as media
from tests.families.registry import FAMILIES
from tests.families.words import IMAGE, VIDEO, template, tokenizer


def internvl() -> Any:
    from transformers import GotOcr2ImageProcessor, InternVLProcessor, InternVLVideoProcessor

    size = {"height": 32, "width": 32}
    named = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    return InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(size=size, max_patches=1),
        tokenizer=tokenizer({3: "<img>", 4: "</img>", IMAGE: "<IMG_CONTEXT>", VIDEO: "<video>"}, named),
        video_processor=InternVLVideoProcessor(size=size),
        image_seq_length=16,
        chat_template=template("<IMG_CONTEXT>"),
    )


def aria() -> Any:
    from transformers import AriaImageProcessor, AriaProcessor

    return AriaProcessor(
        image_processor=AriaImageProcessor(),
        tokenizer=tokenizer({IMAGE: "<|img|>"}, {"image_token": "<|img|>"}),
        chat_template=template("<|img|>"),
        size_conversion={980: 8},
    )


def pixtral() -> Any:
    from transformers import PixtralImageProcessor, PixtralProcessor

    return PixtralProcessor(
        image_processor=PixtralImageProcessor(patch_size=8, size={"longest_edge": 32}),
        tokenizer=tokenizer({IMAGE: "[IMG]", 8: "[IMG_BREAK]", 9: "[IMG_END]"}),
        patch_size=4,
        spatial_merge_size=2,
        chat_template=template("[IMG]"),
    )


def llava() -> Any:
    from transformers import CLIPImageProcessor, LlavaProcessor

    return LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        tokenizer=tokenizer({IMAGE: "<image>"}),
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template("<image>"),
    )


def lfm2_vl() -> Any:
    from transformers import Lfm2VlProcessor
    from transformers.models.lfm2_vl.image_processing_lfm2_vl import Lfm2VlImageProcessor

    control = {IMAGE: "<image>", 3: "<|image_start|>", 4: "<|image_end|>", 8: "<|img_thumbnail|>"}
    return Lfm2VlProcessor(
        image_processor=Lfm2VlImageProcessor(
            encoder_patch_size=4, tile_size=32, min_image_tokens=4, max_image_tokens=16, do_image_splitting=False
        ),
        tokenizer=tokenizer(control),
        chat_template=template("<image>"),
    )


def cohere2_vision() -> Any:
    from transformers import Cohere2VisionImageProcessor, Cohere2VisionProcessor

    named = {
        "boi_token": "<|START_OF_IMG|>",
        "eoi_token": "<|END_OF_IMG|>",
        "image_token": "<|IMG_PATCH|>",
        "img_line_break_token": "<|IMG_LINE_BREAK|>",
    }
    control = {3: named["boi_token"], 4: named["eoi_token"], IMAGE: named["image_token"], 8: "<|IMG_LINE_BREAK|>"}
    return Cohere2VisionProcessor(
        image_processor=Cohere2VisionImageProcessor(
            size={"height": 32, "width": 32}, patch_size=4, downsample_factor=2, crop_to_patches=False
        ),
        tokenizer=tokenizer(control, named),
        chat_template=template("<|IMG_PATCH|>"),
    )


def llama4() -> Any:
    from transformers import Llama4ImageProcessor, Llama4Processor

    control = {3: "<|image_start|>", 4: "<|image_end|>", IMAGE: "<|patch|>", VIDEO: "<|image|>"}
    control |= {8: "<|tile_x_separator|>", 9: "<|tile_y_separator|>"}
    return Llama4Processor(
        image_processor=Llama4ImageProcessor(size={"height": 32, "width": 32}, max_patches=1),
        tokenizer=tokenizer(control),
        patch_size=4,
        pixel_shuffle_ratio=0.5,
        chat_template=template("<|image|>"),
    )


def step3p7() -> Any:
    from transformers.models.step3p7.image_processing_step3p7 import Step3p7ImageProcessor
    from transformers.models.step3p7.processing_step3p7 import Step3p7Processor

    control = {IMAGE: "<im_patch>", 3: "<im_start>", 4: "<im_end>", 8: "<patch_start>", 9: "<patch_end>"}
    return Step3p7Processor(
        image_processor=Step3p7ImageProcessor(size={"height": 32, "width": 32}, patch_size=16, vision_patch_size=2),
        tokenizer=tokenizer(control | {10: "<patch_newline>"}),
        chat_template=template("<im_patch>"),
    )


def deepseek_ocr2() -> Any:
    """145 vision tokens a picture: the model has as many queries as a view of 768 pixels needs, and a separator."""
    from transformers import DeepseekOcr2ImageProcessor, DeepseekOcr2Processor

    return DeepseekOcr2Processor(
        image_processor=DeepseekOcr2ImageProcessor(size={"height": 48, "width": 48}, tile_size=48),
        tokenizer=tokenizer({IMAGE: "<image>"}),
        patch_size=1,
        chat_template=template("<image>"),
    )


def unlimited_ocr() -> Any:
    """21 vision tokens a picture in one view: rows of four and a line break, and a separator."""
    from transformers import UnlimitedOcrImageProcessor, UnlimitedOcrProcessor

    return UnlimitedOcrProcessor(
        image_processor=UnlimitedOcrImageProcessor(size={"height": 32, "width": 32}, tile_size=32),
        tokenizer=tokenizer({IMAGE: "<image>"}),
        patch_size=2,
        chat_template=template("<image>"),
    )


def inkling2() -> Any:
    from transformers import Inkling2ImageProcessor, Inkling2Processor

    return Inkling2Processor(
        image_processor=Inkling2ImageProcessor(size={"height": 8, "width": 8}),
        tokenizer=tokenizer({IMAGE: "<|unused_200054|>"}),
        chat_template=template("<|unused_200054|>"),
    )


def llava_without_class() -> Any:
    """For the doubles, which have no class token: 64 patches, 64 vision tokens."""
    made = llava()
    made.num_additional_image_tokens, made.vision_feature_select_strategy = 0, "full"
    return made


def text_only() -> Any:
    made = tokenizer()
    made.chat_template = template("")
    return made


PROCESSORS: dict[str, Callable[[], Any]] = {
    "qwen3_vl_moe": media.qwen_vl,
    "qwen3_5_moe": media.qwen_vl,
    "qwen3_omni_moe_thinker": media.qwen_omni,
    "glm4v_moe": media.glm4v,
    "internvl_qwen3_moe": internvl,
    "internvl_gpt_oss": internvl,
    "kimi_k25": media.kimi_k25,
    "ernie4_5_vl_moe": media.ernie,
    "gemma4": media.gemma4,
    "aria": aria,
    "mistral3_mistral4": pixtral,
    "mistral_large4": pixtral,
    "minimax_m3_vl": media.minimax_m3,
    "llava_mixtral": llava,
    "lfm2_vl_moe": lfm2_vl,
    "cohere2_vision_moe": cohere2_vision,
    "llama4": llama4,
    "step3p7": step3p7,
    "deepseek_ocr2": deepseek_ocr2,
    "unlimited_ocr": unlimited_ocr,
    "qwen4_exp": media.qwen_vl,
    "glm5_next": media.glm5_next,
    "inkling": media.inkling,
    "inkling2": inkling2,
    "muse_spark": media.muse_spark,
    "dots3_note": media.dots3_note,
    "nemotron_h_omni": media.nemotron_h_omni,
    **dict.fromkeys(("kimi_vl", "deepseek_vl2", "molmoe"), llava_without_class),
    **{family.name: text_only for family in FAMILIES if not family.pictures},
}
