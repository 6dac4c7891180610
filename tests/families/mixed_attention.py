"""Tiny configurations of families whose layers attend in several ways: linear, sparse, by convolution, with a bias."""

from __future__ import annotations

from typing import Any

from tests.families.shapes import EYES, LATENT, LATENT_TEXT, MARKS, PICTURES, QWEN_EYES, TEXT, rope
from tests.families.words import AUDIO, IMAGE, VIDEO, VOCABULARY

INKLING = TEXT | {
    "swa_num_attention_heads": 4,
    "swa_num_key_value_heads": 2,
    "swa_head_dim": 16,
    "sliding_window_size": 8,
    "d_rel": 4,
    "rel_extent": 8,
    "layer_types": ["hybrid_sliding", "hybrid", "hybrid_sliding"],
    "n_routed_experts": 8,
}
NEMOTRON = {
    "layers_block_type": ["linear_attention", "moe", "full_attention", "moe"],
    "ssm_state_size": 8,
    "mamba_num_heads": 4,
    "mamba_head_dim": 8,
    "n_groups": 2,
    "chunk_size": 16,
    "n_routed_experts": 8,
    "moe_shared_expert_intermediate_size": 24,
}

MIXED_ATTENTION: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3_5_moe": (
        "qwen3_5_moe",
        {
            "text_config": TEXT
            | {
                "num_hidden_layers": 5,
                "num_experts": 8,
                "shared_expert_intermediate_size": 24,
                "layer_types": [*["linear_attention"] * 3, "full_attention", "linear_attention"],
                "linear_num_value_heads": 4,
                "linear_num_key_heads": 2,
                "linear_key_head_dim": 8,
                "linear_value_head_dim": 8,
            }
            | rope(1, 1, 0, mrope_interleaved=True, partial_rotary_factor=0.25),
            "vision_config": QWEN_EYES,
            **PICTURES,
            **MARKS,
        },
    ),
    "mistral_large4": (
        "mistral_large4",
        {
            "text_config": LATENT_TEXT | {"index_topk": 8, "index_head_dim": 16, "index_n_heads": 2},
            "vision_config": EYES | {"image_size": 64, "patch_size": 4, "head_dim": 16},
            "image_token_index": IMAGE,
        },
    ),
    "minimax_m3_vl": (
        "minimax_m3_vl",
        {
            "text_config": TEXT
            | {
                "intermediate_size": 24,
                "num_local_experts": 8,
                "dense_intermediate_size": 96,
                "shared_intermediate_size": 24,
                "layer_types": ["full_attention", "minimax_m3_sparse", "minimax_m3_sparse"],
                "index_n_heads": 2,
                "index_head_dim": 16,
                "index_block_size": 4,
                "index_topk_blocks": 2,
            },
            "vision_config": EYES | {"patch_size": 4},
            "image_token_index": IMAGE,
            "video_token_index": VIDEO,
        },
    ),
    "lfm2_vl_moe": (
        "lfm2_vl",
        {
            "text_config": TEXT
            | {
                "model_type": "lfm2_moe",
                "num_experts": 8,
                "num_dense_layers": 1,
                "layer_types": ["conv", "full_attention", "conv"],
            },
            "vision_config": EYES | {"model_type": "siglip2_vision_model", "patch_size": 4, "num_patches": 64},
            "image_token_id": IMAGE,
        },
    ),
    "qwen4_exp": (
        "qwen4_exp",
        {
            "text_config": TEXT
            | {
                "num_experts": 8,
                "shared_expert_intermediate_size": 24,
                "layer_types": ["linear_attention", "full_attention", "linear_attention"],
                "linear_num_value_heads": 4,
                "linear_num_key_heads": 2,
                "linear_key_head_dim": 8,
                "linear_value_head_dim": 8,
                "hc_count": 2,
                "hc_lowrank": 8,
                "ple_layer_ids": [1],
                "heads_per_ngram": 2,
                "ngram_vocab_size_base": 50,
                "make_ngram_vocab_size_divisible_by": 4,
                "split_ngram_parts": 2,
                "indexer_n_heads": 2,
                "indexer_kv_heads": 1,
                "indexer_head_dim": 16,
                "indexer_budget": 8,
                "indexer_compress_ratio": 4,
            }
            | rope(1, 1, 0, mrope_interleaved=True, partial_rotary_factor=0.25),
            "vision_config": QWEN_EYES,
            **PICTURES,
            **MARKS,
        },
    ),
    "glm5_next": (
        "glm5_next",
        {
            "text_config": LATENT_TEXT
            | {
                "qk_rope_head_dim": 0,
                "num_hidden_layers": 4,
                "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"],
                "layer_types": ["linear_attention", "indexed_attention", "indexed_attention", "linear_attention"],
                "indexer_types": ["full", "full", "shared", "full"],
                "index_topk": 8,
                "index_head_dim": 16,
                "index_n_heads": 2,
                "index_kpool": 4,
                "linear_head_dim": 8,
                "linear_num_heads": 2,
                "hc_mult": 2,
                "hc_sinkhorn_iters": 2,
            },
            "vision_config": {
                "depth": 2,
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_heads": 2,
                "patch_size": 4,
                "out_hidden_size": 64,
                "image_size": 32,
                "projection_intermediate_size": 32,
            },
            **PICTURES,
            "image_start_token_id": 3,
            "image_end_token_id": 4,
            "video_start_token_id": 8,
            "video_end_token_id": 9,
        },
    ),
    "inkling": (
        "inkling_mm_model",
        {
            "text_config": INKLING | {"n_shared_experts": 2, "mlp_layer_types": ["dense", "sparse", "sparse"]},
            "vision_config": {"patch_size": 8, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
            "audio_config": {"n_mel_bins": 4, "mel_vocab_size": 8},
            "image_token_id": IMAGE,
            "audio_token_id": AUDIO,
            "image_bos_token_id": 3,
            "audio_bos_token_id": 8,
        },
    ),
    "inkling2": (
        "inkling2",
        {
            "text_config": {key: value for key, value in INKLING.items() if key != "intermediate_size"}
            | {"n_layers_per_attn_res_block": 2, "unpadded_vocab_size": VOCABULARY},
            "vision_config": EYES
            | {"patch_size": 4, "posemb_grid_size": 4, "projection_hidden_dim": 32, "text_hidden_size": 64},
            "image_token_id": IMAGE,
        },
    ),
    "dots3_note": (
        "dots3_note",
        {
            "text_config": LATENT_TEXT
            | {
                "layer_types": ["full_attention", "sliding_attention", "full_attention"],
                "sliding_window": 8,
                "shared_experts_intermediate_size": 24,
                "head_dim": 24,
                "index_topk": 8,
                "index_head_dim": 16,
                "index_n_heads": 2,
                **{f"swa_{key}": value for key, value in LATENT.items() if key.endswith(("rank", "_dim"))},
                "swa_num_attention_heads": 4,
                "swa_num_key_value_heads": 4,
                "swa_head_dim": 24,
            },
            "vision_config": EYES
            | {
                "patch_size": 4,
                "moe_intermediate_size": 16,
                "pyramid_num_routed": [-1, 4],
                "adapter_in_dim": 32,
                "adapter_out_dim": 64,
            },
            "audio_config": EYES
            | {"feature_size": 16, "downsample_hidden_size": 8, "adapter_input_size": 32, "adapter_out_dim": 64},
            **PICTURES,
            "audio_token_id": AUDIO,
        },
    ),
    "nemotron_h_omni": (
        "nemotron_h_omni",
        {
            "text_config": {key: value for key, value in TEXT.items() if key != "num_hidden_layers"}
            | NEMOTRON
            | {"model_type": "nemotron_h"},
            "vision_config": {
                "model_type": "radio",
                "hidden_size": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "mlp_ratio": 1.0,
                "patch_size": 4,
                "image_size": 32,
                "max_img_size": 64,
                "num_cls_tokens": 1,
                "num_registers": 1,
                "video_temporal_patch_size": 2,
            },
            "audio_config": {
                "hidden_size": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 48,
                "subsampling_conv_channels": 8,
                "num_mel_bins": 16,
                "projection_hidden_size": 32,
                "projection_bias": False,
            },
            "projector_hidden_size": 32,
            "vision_hidden_size": 32,
            "image_token_id": IMAGE,
            "video_token_id": VIDEO,
            "audio_token_id": AUDIO,
        },
    ),
}
