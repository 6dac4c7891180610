"""Tiny configurations of families that read text only."""

from __future__ import annotations

from typing import Any

from tests.families.shapes import LATENT_TEXT, TEXT

TEXT_ONLY: dict[str, tuple[str, dict[str, Any]]] = {
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
