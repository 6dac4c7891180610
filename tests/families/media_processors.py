"""The own processors of families that read video or audio, too; for pictures of about 32 pixels a side."""

from __future__ import annotations

from typing import Any

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
        chat_template=template(
            "<|vision_start|><|image_pad|><|vision_end|>", "<|audio_start|><|audio_pad|><|audio_end|>"
        ),
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
        feature_extractor=Gemma4AudioFeatureExtractor(feature_size=16),
        image_processor=Gemma4ImageProcessor(patch_size=4, max_soft_tokens=70),
        tokenizer=tokenizer(control, named),
        video_processor=Gemma4VideoProcessor(patch_size=4, max_soft_tokens=70),
        chat_template=template("<image_soft_token>", "<audio_soft_token>"),
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
        feature_extractor=InklingFeatureExtractor(feature_size=4),
        image_processor=InklingImageProcessor(size={"height": 8, "width": 8}),
        tokenizer=tokenizer(control | {AUDIO: "<|unused_200053|>"}),
        chat_template=template("<|content_image|><|unused_200054|>", "<|content_audio_input|><|unused_200053|>"),
        num_dmel_bins=8,
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
        chat_template=template("<|patch|>", "<|audio|>"),
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
        feature_extractor=Dots3NoteFeatureExtractor(feature_size=16),
        chat_template=template("<|imgpad|>", "<|audio_comp_pad|>"),
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
        feature_extractor=ParakeetFeatureExtractor(feature_size=16),
        tokenizer=tokenizer({3: "<img>", 4: "</img>", IMAGE: "<image>", VIDEO: "<video>", AUDIO: "<so_embedding>"}),
        chat_template=template("<image>", "<so_embedding>"),
    )
