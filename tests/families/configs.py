"""Arguments of the families' own configuration classes that give tiny models: hidden 64, 8 experts, top-2."""

from __future__ import annotations

from typing import Any

from tests.families.mixed_attention import MIXED_ATTENTION
from tests.families.shapes import EYES, LATENT_TEXT, MARKS, PICTURES, QWEN_EYES, TEXT, rope
from tests.families.text_only import TEXT_ONLY
from tests.families.words import AUDIO, IMAGE, VIDEO, VOCABULARY

OCR_TEXT = {key: value for key, value in TEXT.items() if key != "head_dim"} | {
    "num_key_value_heads": 4,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "mlp_layer_types": ["dense", "sparse", "sparse"],
}
SAM = {  # what looks at pictures first, in DeepSeek's and Baidu's readers of documents
    "hidden_size": 32,
    "output_channels": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "mlp_dim": 48,
    "global_attn_indexes": [],
    "window_size": 4,
}

CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3_vl_moe": (
        "qwen3_vl_moe",
        {
            "text_config": TEXT | {"num_experts": 8, "mlp_only_layers": [1]} | rope(2, 3, 3, mrope_interleaved=True),
            "vision_config": QWEN_EYES | {"deepstack_visual_indexes": [0, 1]},
            **PICTURES,
            **MARKS,
        },
    ),
    "qwen3_omni_moe_thinker": (
        "qwen3_omni_moe_thinker",
        {
            "text_config": TEXT | {"num_experts": 8} | rope(2, 3, 3, mrope_interleaved=True),
            "vision_config": QWEN_EYES | {"deepstack_visual_indexes": [0, 1]},
            "audio_config": {
                "d_model": 32,
                "encoder_layers": 2,
                "encoder_attention_heads": 2,
                "encoder_ffn_dim": 48,
                "num_mel_bins": 16,
                "output_dim": 64,
                "downsample_hidden_size": 8,
            },
            **PICTURES,
            **MARKS,
            "audio_token_id": AUDIO,
        },
    ),
    "glm4v_moe": (
        "glm4v_moe",
        {
            "text_config": TEXT
            | {
                "n_routed_experts": 8,
                "n_shared_experts": 1,
                "n_group": 1,
                "topk_group": 1,
                "first_k_dense_replace": 1,
            }
            | rope(2, 1, 1, partial_rotary_factor=0.5),
            "vision_config": {
                "depth": 2,
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_heads": 2,
                "patch_size": 4,
                "out_hidden_size": 64,
                "image_size": 32,
            },
            **PICTURES,
            "image_start_token_id": 3,
            "image_end_token_id": 4,
            "video_start_token_id": 8,
            "video_end_token_id": 9,
        },
    ),
    "internvl_qwen3_moe": (
        "internvl",
        {
            "text_config": TEXT | {"model_type": "qwen3_moe", "num_experts": 8},
            "vision_config": EYES | {"image_size": [32, 32], "patch_size": [4, 4]},
            "image_token_id": IMAGE,
        },
    ),
    "internvl_gpt_oss": (
        "internvl",
        {
            "text_config": TEXT
            | {
                "model_type": "gpt_oss",
                "intermediate_size": 24,
                "num_local_experts": 8,
                "layer_types": ["sliding_attention", "full_attention", "full_attention"],
                "sliding_window": 8,
            }
            | {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
            "vision_config": EYES | {"image_size": [32, 32], "patch_size": [4, 4]},
            "image_token_id": IMAGE,
        },
    ),
    "kimi_k25": (
        "kimi_k25",
        {
            "text_config": LATENT_TEXT | {"model_type": "deepseek_v3"},
            "vision_config": EYES | {"patch_size": 4, "pos_emb_height": 8, "pos_emb_width": 8},
            "projection_hidden_size": 32,
            **PICTURES,
            **MARKS,
        },
    ),
    "ernie4_5_vl_moe": (
        "ernie4_5_vl_moe",
        {
            "text_config": TEXT
            | {
                "moe_intermediate_size": [24, 16],
                "moe_num_experts": 8,
                "moe_k": 2,
                "moe_num_shared_experts": 1,
                "mlp_layer_types": ["dense", "sparse", "sparse"],
            }
            | rope(2, 2, 4),
            "vision_config": {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "patch_size": 4},
            **PICTURES,
            "image_start_token_id": 3,
            "image_end_token_id": 4,
            "video_start_token_id": 8,
            "video_end_token_id": 9,
        },
    ),
    "gemma4": (
        "gemma4",
        {
            "text_config": TEXT
            | {
                "enable_moe_block": True,
                "num_experts": 8,
                "top_k_experts": 2,
                "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
                "sliding_window": 8,
                "hidden_size_per_layer_input": 8,
                "vocab_size_per_layer_input": VOCABULARY,
                "global_head_dim": 16,
                "num_kv_shared_layers": 0,
            },
            "vision_config": EYES
            | {"head_dim": 16, "num_key_value_heads": 2, "patch_size": 4, "position_embedding_size": 64},
            "audio_config": {
                "hidden_size": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "subsampling_conv_channels": [16, 4],
                "output_proj_dims": 32,
            },
            "audio_token_id": AUDIO,
            "image_token_id": IMAGE,
            "video_token_id": VIDEO,
            "boi_token_id": 3,
            "eoi_token_id": 4,
        },
    ),
    "aria": (
        "aria",
        {
            "text_config": TEXT
            | {"intermediate_size": 24, "moe_num_experts": 8, "moe_topk": 2, "moe_num_shared_experts": 1},
            "vision_config": EYES | {"model_type": "idefics3_vision", "image_size": 980, "patch_size": 140},
            "image_token_index": IMAGE,
            "projector_patch_to_query_dict": {"49": 8},
        },
    ),
    "mistral3_mistral4": (
        "mistral3",
        {
            "text_config": LATENT_TEXT | {"model_type": "mistral4"},
            "vision_config": EYES | {"model_type": "pixtral", "image_size": 64, "patch_size": 4, "head_dim": 16},
            "image_token_index": IMAGE,
            "spatial_merge_size": 2,
        },
    ),
    "llava_mixtral": (
        "llava",
        {
            "text_config": TEXT | {"model_type": "mixtral", "intermediate_size": 24, "num_local_experts": 8},
            "vision_config": EYES
            | {"model_type": "clip_vision_model", "image_size": 32, "patch_size": 4, "projection_dim": 32},
            "image_token_index": IMAGE,
        },
    ),
    "cohere2_vision_moe": (
        "cohere2_vision",
        {
            "text_config": TEXT | {"model_type": "cohere2_moe", "num_experts": 8, "intermediate_size": 24},
            "vision_config": EYES | {"model_type": "siglip_vision_model", "image_size": 32, "patch_size": 4},
            "image_token_id": IMAGE,
        },
    ),
    "llama4": (
        "llama4",
        {
            "text_config": TEXT
            | {
                "intermediate_size": 24,
                "num_hidden_layers": 4,
                "num_local_experts": 8,
                "intermediate_size_mlp": 96,
                "interleave_moe_layer_step": 2,
            },
            "vision_config": EYES
            | {
                "intermediate_size": 128,
                "vision_output_dim": 64,
                "projector_input_dim": 64,
                "projector_output_dim": 64,
                "image_size": 32,
                "patch_size": 4,
            },
            "image_token_index": IMAGE,
        },
    ),
    "step3p7": (
        "step3p7",
        {
            "text_config": TEXT
            | {
                "n_routed_experts": 8,
                "share_expert_dim": 24,
                "mlp_layer_types": ["dense", "sparse", "sparse"],
                "layer_types": ["full_attention", "sliding_attention", "full_attention"],
                "sliding_window": 8,
            },
            "vision_config": EYES | {"image_size": 32, "patch_size": 2},
            "image_token_id": IMAGE,
        },
    ),
    "deepseek_ocr2": (
        "deepseek_ocr2",
        {
            "text_config": OCR_TEXT,
            "vision_config": {
                "sam_config": SAM | {"image_size": 48, "patch_size": 1, "downsample_channels": [16, 32]},
                "encoder_config": EYES | {"num_key_value_heads": 2, "vocab_size": 2},
            },
            "image_token_id": IMAGE,
        },
    ),
    "unlimited_ocr": (
        "unlimited_ocr",
        {
            "text_config": OCR_TEXT | {"sliding_window": 8},
            "vision_config": {
                "sam_config": SAM | {"image_size": 32, "patch_size": 2, "downsample_channels": [16, 32]},
                "encoder_config": EYES | {"image_size": 16, "patch_size": 4},
            },
            "image_token_id": IMAGE,
        },
    ),
    "muse_spark": (
        "muse_spark",
        {
            "text_config": TEXT
            | {
                "num_local_experts": 8,
                "moe_hidden_size": 32,
                "mlp_layer_types": ["dense", "sparse", "sparse"],
                "sliding_window": 8,
                "layer_types": ["full_attention", "sliding_attention", "full_attention"],
            },
            "vision_config": EYES | {"patch_size": 4, "pos_emb_height": 8, "pos_emb_width": 8},
            "audio_config": {
                "patch_sizes": [1920],
                "hidden_sizes": [8],
                "depths": [1],
                "num_hidden_layers": 1,
                "out_hidden_size": 64,
            },
            "out_hidden_size": 128,
            "projector_hidden_size": 32,
            "image_token_id": IMAGE,
            "video_token_id": VIDEO,
            "audio_token_id": AUDIO,
        },
    ),
    "kimi_vl": ("double", {"media_placeholder_token_id": IMAGE}),
    "deepseek_vl2": (
        "double",
        {"scoring_func": "softmax", "norm_topk_prob": False, "routed_scaling_factor": 1.0},
    ),
    "molmoe": ("double", {}),
    **MIXED_ATTENTION,
    **TEXT_ONLY,
}
