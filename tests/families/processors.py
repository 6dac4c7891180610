"""Each family's own processor, made offline around the tiny tokenizer, for pictures of about 32 pixels a side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.families.registry import FAMILIES
from tests.families.words import AUDIO, IMAGE, VIDEO, template, tokenizer


def qwen_vl() -> Any:
    """Qwen3-VL and Qwen3.5."""
    from transformers import Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

    size = {"shortest_edge": 16 * 16, "longest_edge": 64 * 64}
    common = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2, "size": size}
    control = {3: "<|vision_start|>", 4: "<|vision_end|>", IMAGE: "<|image_pad|>", VIDEO: "<|video_pad|>"}
    return Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(**common),
        tokenizer=tokenizer(control),
        video_processor=Qwen3VLVideoProcessor(**common),
        chat_template=template("<|vision_start|><|image_pad|><|vision_end|>"),
    )


def qwen_omni() -> Any:
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
        Qwen3OmniMoeProcessor,
        WhisperFeatureExtractor,
    )

    common = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2, "min_pixels": 256, "max_pixels": 4096}
    named = {
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
        "audio_token": "<|audio_pad|>",
        "vision_bos_token": "<|vision_start|>",
        "vision_eos_token": "<|vision_end|>",
        "audio_bos_token": "<|audio_start|>",
        "audio_eos_token": "<|audio_end|>",
    }
    control = {3: "<|vision_start|>", 4: "<|vision_end|>", AUDIO: "<|audio_pad|>", IMAGE: "<|image_pad|>"}
    control |= {VIDEO: "<|video_pad|>", 8: "<|audio_start|>", 9: "<|audio_end|>"}
    return Qwen3OmniMoeProcessor(
        image_processor=Qwen2VLImageProcessor(**common),
        video_processor=Qwen2VLVideoProcessor(**common),
        feature_extractor=WhisperFeatureExtractor(feature_size=16),
        tokenizer=tokenizer(control, named),
        chat_template=template("<|vision_start|><|image_pad|><|vision_end|>"),
    )


def glm4v() -> Any:
    from transformers import Glm4vImageProcessor, Glm4vProcessor, Glm4vVideoProcessor

    size = {"shortest_edge": 16 * 16, "longest_edge": 64 * 64}
    common = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2, "size": size}
    control = {3: "<|begin_of_image|>", 4: "<|end_of_image|>", IMAGE: "<|image|>", VIDEO: "<|video|>"}
    return Glm4vProcessor(
        image_processor=Glm4vImageProcessor(**common),
        tokenizer=tokenizer(control),
        video_processor=Glm4vVideoProcessor(**common),
        chat_template=template("<|begin_of_image|><|image|><|end_of_image|>"),
    )


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


def kimi_k25() -> Any:
    from transformers.models.kimi_k25.image_processing_kimi_k25 import Kimi_K25ImageProcessor
    from transformers.models.kimi_k25.processing_kimi_k25 import Kimi_K25Processor
    from transformers.models.kimi_k25.video_processing_kimi_k25 import Kimi_K25VideoProcessor

    common = {"patch_size": 4, "merge_size": 2, "size": {"max_height": 64, "max_width": 64}}
    control = {3: "<|media_begin|>", 4: "<|media_end|>", IMAGE: "<|media_pad|>"}
    control |= {VIDEO: "<|kimi_k25_video_placeholder|>"}
    return Kimi_K25Processor(
        image_processor=Kimi_K25ImageProcessor(**common),
        tokenizer=tokenizer(control),
        video_processor=Kimi_K25VideoProcessor(patch_size=4, merge_size=2),
        chat_template=template("<|media_begin|><|media_pad|><|media_end|>"),
    )


def ernie() -> Any:
    from transformers import (
        Ernie4_5_VLMoeImageProcessor,
        Ernie4_5_VLMoeProcessor,
        Ernie4_5_VLMoeVideoProcessor,
    )

    named = {
        "image_token": "<|IMAGE_PLACEHOLDER|>",
        "image_start_token": "<|IMAGE_START|>",
        "image_end_token": "<|IMAGE_END|>",
        "video_token": "<|VIDEO_PLACEHOLDER|>",
        "video_start_token": "<|VIDEO_START|>",
        "video_end_token": "<|VIDEO_END|>",
    }
    control = {IMAGE: named["image_token"], 3: named["image_start_token"], 4: named["image_end_token"]}
    control |= {VIDEO: named["video_token"], 8: named["video_start_token"], 9: named["video_end_token"]}
    size = {"shortest_edge": 16 * 16, "longest_edge": 64 * 64}
    common = {"patch_size": 4, "merge_size": 2, "size": size}
    return Ernie4_5_VLMoeProcessor(
        image_processor=Ernie4_5_VLMoeImageProcessor(**common),
        tokenizer=tokenizer(control, named),
        video_processor=Ernie4_5_VLMoeVideoProcessor(**common, draw_on_frames=False),
        chat_template=template("<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>"),
    )


def gemma4() -> Any:
    from transformers.models.gemma4.feature_extraction_gemma4 import Gemma4AudioFeatureExtractor
    from transformers.models.gemma4.image_processing_gemma4 import Gemma4ImageProcessor
    from transformers.models.gemma4.processing_gemma4 import Gemma4Processor
    from transformers.models.gemma4.video_processing_gemma4 import Gemma4VideoProcessor

    named = {
        "image_token": "<image_soft_token>",
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
        "audio_token": "<audio_soft_token>",
        "boa_token": "<start_of_audio>",
        "eoa_token": "<end_of_audio>",
    }
    control = {IMAGE: named["image_token"], 3: named["boi_token"], 4: named["eoi_token"], VIDEO: "<|video|>"}
    control |= {AUDIO: named["audio_token"], 8: named["boa_token"], 9: named["eoa_token"]}
    return Gemma4Processor(
        feature_extractor=Gemma4AudioFeatureExtractor(),
        image_processor=Gemma4ImageProcessor(patch_size=4, max_soft_tokens=70),
        tokenizer=tokenizer(control, named),
        video_processor=Gemma4VideoProcessor(patch_size=4, max_soft_tokens=70),
        chat_template=template("<image_soft_token>"),
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


def minimax_m3() -> Any:
    from transformers.models.minimax_m3_vl.image_processing_minimax_m3_vl import MiniMaxM3VLImageProcessor
    from transformers.models.minimax_m3_vl.processing_minimax_m3_vl import MiniMaxM3VLProcessor
    from transformers.models.minimax_m3_vl.video_processing_minimax_m3_vl import MiniMaxM3VLVideoProcessor

    size = {"shortest_edge": 16 * 16, "longest_edge": 64 * 64}
    common = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2, "size": size}
    known = MiniMaxM3VLProcessor
    control = {3: known.VISION_START_TOKEN, 4: known.VISION_END_TOKEN, IMAGE: known.IMAGE_TOKEN}
    return known(
        image_processor=MiniMaxM3VLImageProcessor(**common),
        tokenizer=tokenizer(control | {VIDEO: known.VIDEO_TOKEN}),
        video_processor=MiniMaxM3VLVideoProcessor(**common),
        chat_template=template(known.IMAGE_TOKEN),
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


def glm5_next() -> Any:
    from transformers import Glm5NextImageProcessor, Glm5NextProcessor, Glm5NextVideoProcessor

    size = {"shortest_edge": 16 * 16, "longest_edge": 64 * 64}
    common = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2, "size": size}
    control = {3: "<|begin_of_image|>", 4: "<|end_of_image|>", IMAGE: "<|image|>", VIDEO: "<|video|>"}
    return Glm5NextProcessor(
        image_processor=Glm5NextImageProcessor(**common),
        tokenizer=tokenizer(control | {8: "<|begin_of_video|>", 9: "<|end_of_video|>"}),
        video_processor=Glm5NextVideoProcessor(**common),
        chat_template=template("<|begin_of_image|><|image|><|end_of_image|>"),
    )


def inkling() -> Any:
    from transformers import InklingFeatureExtractor, InklingImageProcessor, InklingProcessor

    control = {3: "<|content_image|>", 8: "<|content_audio_input|>", IMAGE: "<|unused_200054|>"}
    return InklingProcessor(
        feature_extractor=InklingFeatureExtractor(),
        image_processor=InklingImageProcessor(size={"height": 8, "width": 8}),
        tokenizer=tokenizer(control | {AUDIO: "<|unused_200053|>"}),
        chat_template=template("<|content_image|><|unused_200054|>"),
    )


def inkling2() -> Any:
    from transformers import Inkling2ImageProcessor, Inkling2Processor

    return Inkling2Processor(
        image_processor=Inkling2ImageProcessor(size={"height": 8, "width": 8}),
        tokenizer=tokenizer({IMAGE: "<|unused_200054|>"}),
        chat_template=template("<|unused_200054|>"),
    )


def muse_spark() -> Any:
    from transformers import (
        MuseGlimmerImageProcessor,
        MuseGlimmerVideoProcessor,
        MuseSparkFeatureExtractor,
        MuseSparkProcessor,
    )

    control = {3: "<|image_start|>", 4: "<|image_end|>", IMAGE: "<|patch|>", VIDEO: "<|video|>", AUDIO: "<|audio|>"}
    return MuseSparkProcessor(
        image_processor=MuseGlimmerImageProcessor(patch_size=4),
        video_processor=MuseGlimmerVideoProcessor(patch_size=4),
        tokenizer=tokenizer(control),
        feature_extractor=MuseSparkFeatureExtractor(),
        chat_template=template("<|patch|>"),
    )


def dots3_note() -> Any:
    from transformers import (
        Dots3NoteFeatureExtractor,
        Dots3NoteProcessor,
        Qwen2VLImageProcessor,
        Qwen3VLVideoProcessor,
    )

    size = {"shortest_edge": 16 * 16, "longest_edge": 64 * 64}
    common = {"patch_size": 4, "merge_size": 2, "size": size}
    return Dots3NoteProcessor(
        image_processor=Qwen2VLImageProcessor(temporal_patch_size=1, **common),
        tokenizer=tokenizer({IMAGE: "<|imgpad|>", VIDEO: "<|video_pad|>", AUDIO: "<|audio_comp_pad|>"}),
        video_processor=Qwen3VLVideoProcessor(temporal_patch_size=1, **common),
        feature_extractor=Dots3NoteFeatureExtractor(),
        chat_template=template("<|imgpad|>"),
    )


def nemotron_h_omni() -> Any:
    from transformers import ParakeetFeatureExtractor
    from transformers.models.nemotron_h_omni import image_processing_nemotron_h_omni as pictures
    from transformers.models.nemotron_h_omni import processing_nemotron_h_omni as whole
    from transformers.models.nemotron_h_omni import video_processing_nemotron_h_omni as videos

    return whole.NemotronH_Omni_Reasoning_V3Processor(
        image_processor=pictures.NemotronH_Omni_Reasoning_V3ImageProcessor(
            patch_size=4, min_num_patches=16, max_num_patches=128
        ),
        video_processor=videos.NemotronH_Omni_Reasoning_V3VideoProcessor(),
        feature_extractor=ParakeetFeatureExtractor(),
        tokenizer=tokenizer({3: "<img>", 4: "</img>", IMAGE: "<image>", VIDEO: "<video>", AUDIO: "<so_embedding>"}),
        chat_template=template("<image>"),
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
    "qwen3_vl_moe": qwen_vl,
    "qwen3_5_moe": qwen_vl,
    "qwen3_omni_moe_thinker": qwen_omni,
    "glm4v_moe": glm4v,
    "internvl_qwen3_moe": internvl,
    "internvl_gpt_oss": internvl,
    "kimi_k25": kimi_k25,
    "ernie4_5_vl_moe": ernie,
    "gemma4": gemma4,
    "aria": aria,
    "mistral3_mistral4": pixtral,
    "mistral_large4": pixtral,
    "minimax_m3_vl": minimax_m3,
    "llava_mixtral": llava,
    "lfm2_vl_moe": lfm2_vl,
    "cohere2_vision_moe": cohere2_vision,
    "llama4": llama4,
    "step3p7": step3p7,
    "deepseek_ocr2": deepseek_ocr2,
    "unlimited_ocr": unlimited_ocr,
    "qwen4_exp": qwen_vl,
    "glm5_next": glm5_next,
    "inkling": inkling,
    "inkling2": inkling2,
    "muse_spark": muse_spark,
    "dots3_note": dots3_note,
    "nemotron_h_omni": nemotron_h_omni,
    **dict.fromkeys(("kimi_vl", "deepseek_vl2", "molmoe"), llava_without_class),
    **{family.name: text_only for family in FAMILIES if not family.pictures},
}
