"""Arguments of the families' own configuration classes that give tiny models: hidden 64, 8 experts, top-2."""

from __future__ import annotations

from typing import Any

from tests.families.words import AUDIO, IMAGE, VIDEO, VOCABULARY

TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "moe_intermediate_size": 24,
    "num_experts_per_tok": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "max_position_embeddings": 512,
}
EYES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
QWEN_EYES = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 2,
    "patch_size": 4,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "out_hidden_size": 64,
    "num_position_embeddings": 64,
}
PICTURES = {"image_token_id": IMAGE, "video_token_id": VIDEO}
MARKS = {"vision_start_token_id": 3, "vision_end_token_id": 4}
LATENT = {  # multi-head latent attention and experts, as DeepSeek-V3 has them
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 16,
    "n_routed_experts": 8,
    "n_group": 1,
    "topk_group": 1,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
}
LATENT_TEXT = {key: value for key, value in TEXT.items() if key != "head_dim"} | LATENT


def rope(*sections: int, **others: Any) -> dict[str, Any]:
    """Rotary embedding over time, height and width."""
    return {
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": list(sections), **others}
    }


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
            "audio_config": None,
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
    "llava_mixtral": (
        "llava",
        {
            "text_config": TEXT | {"model_type": "mixtral", "intermediate_size": 24, "num_local_experts": 8},
            "vision_config": EYES
            | {"model_type": "clip_vision_model", "image_size": 32, "patch_size": 4, "projection_dim": 32},
            "image_token_index": IMAGE,
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
                "patch_sizes": [4],
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
            "projector_hidden_size": 32,
            "vision_hidden_size": 32,
            "image_token_id": IMAGE,
            "video_token_id": VIDEO,
        },
    ),
    "kimi_vl": ("double", {"media_placeholder_token_id": IMAGE}),
    "deepseek_vl2": (
        "double",
        {"scoring_func": "softmax", "norm_topk_prob": False, "routed_scaling_factor": 1.0},
    ),
    "molmoe": ("double", {}),
    "mixtral": ("mixtral", TEXT | {"intermediate_size": 24, "num_local_experts": 8}),
    "qwen3_moe": ("qwen3_moe", TEXT | {"num_experts": 8, "mlp_only_layers": [1]}),
    "olmoe": ("olmoe", TEXT | {"intermediate_size": 24, "num_experts": 8}),
    "deepseek_v2": ("deepseek_v2", LATENT_TEXT | {"topk_method": "greedy"}),
    "deepseek_v3": ("deepseek_v3", LATENT_TEXT),
    "deepseek_v4": (
        "deepseek_v4",
        TEXT
        | {
            "intermediate_size": 24,
            "num_key_value_heads": 1,
            "q_lora_rank": 16,
            "n_routed_experts": 8,
            "layer_types": ["sliding_attention", "compressed_sparse_attention", "heavily_compressed_attention"],
            "mlp_layer_types": ["hash_moe", "moe", "moe"],
            "hc_mult": 2,
            "hc_sinkhorn_iters": 2,
            "sliding_window": 8,
            "o_groups": 2,
            "o_lora_rank": 16,
            "index_n_heads": 2,
            "index_head_dim": 16,
            "index_topk": 4,
        },
    ),
    "minimax_m2": ("minimax_m2", TEXT | {"intermediate_size": 24, "num_local_experts": 8}),
    "glm4_moe": ("glm4_moe", TEXT | {"n_routed_experts": 8}),
    "gpt_oss": ("gpt_oss", TEXT | {"intermediate_size": 24, "num_local_experts": 8, "sliding_window": 8}),
    "qwen3_next": (
        "qwen3_next",
        TEXT
        | {
            "num_experts": 8,
            "shared_expert_intermediate_size": 24,
            "layer_types": ["linear_attention", "full_attention", "linear_attention"],
            "linear_num_value_heads": 4,
            "linear_num_key_heads": 2,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
        },
    ),
    "hunyuan_v1_moe": ("hunyuan_v1_moe", TEXT | {"intermediate_size": 24, "num_experts": 8, "moe_topk": 2}),
    "ernie4_5_moe": (
        "ernie4_5_moe",
        TEXT | {"moe_num_experts": 8, "moe_k": 2, "moe_num_shared_experts": 1},
    ),
    "granitemoehybrid": (
        "granitemoehybrid",
        {key: value for key, value in TEXT.items() if key not in ("head_dim", "moe_intermediate_size")}
        | {
            "intermediate_size": 24,
            "num_local_experts": 8,
            "shared_intermediate_size": 24,
            "layer_types": ["mamba", "attention", "mamba"],
            "mamba_n_heads": 4,
            "mamba_d_state": 8,
            "mamba_chunk_size": 16,
        },
    ),
}
