"""Doubles of three families whose code comes with the model: the same modules under the same names, made small.

Kimi-VL-A3B and DeepSeek-VL2 run a `ModuleList` of MLPs behind a `MoEGate` that gives ids and weights; their eager
attention returns its weights on request. MolmoE-1B keeps its layers in `transformer.blocks`, has a linear layer as
router with a softmax behind it, a norm in front of the router, and attention in a method. What looks at pictures is
one convolution here. This file stands alone, since saving a model copies it beside the weights.
"""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.modeling_outputs import CausalLMOutputWithPast


class DoubleConfig(PretrainedConfig):
    """Sizes of a double; `media_placeholder_token_id` only where the family's configuration names it."""

    model_type = "double"

    def __init__(
        self,
        vocab_size=300,
        hidden_size=64,
        num_attention_heads=4,
        num_hidden_layers=3,
        moe_intermediate_size=24,
        n_routed_experts=8,
        num_experts_per_tok=2,
        first_k_dense_replace=1,
        scoring_func="sigmoid",
        norm_topk_prob=True,
        routed_scaling_factor=2.5,
        vision_config=None,
        placeholder=6,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.vocab_size, self.hidden_size, self.num_attention_heads = vocab_size, hidden_size, num_attention_heads
        self.num_hidden_layers, self.moe_intermediate_size = num_hidden_layers, moe_intermediate_size
        self.n_routed_experts, self.num_experts_per_tok = n_routed_experts, num_experts_per_tok
        self.first_k_dense_replace, self.scoring_func = first_k_dense_replace, scoring_func
        self.norm_topk_prob, self.routed_scaling_factor = norm_topk_prob, routed_scaling_factor
        self.vision_config, self.placeholder = vision_config or {"patch_size": 4}, placeholder


def causal_mask(attention_mask, states):
    """Additive `[batch, 1, L, L]`: nothing later, no padding."""
    length = states.shape[1]
    seen = torch.ones(length, length, dtype=torch.bool, device=states.device).tril()[None, None]
    if attention_mask is not None:
        seen = seen & attention_mask[:, None, None, :].bool()
    return torch.zeros(seen.shape, dtype=states.dtype, device=states.device).masked_fill(
        ~seen, torch.finfo(states.dtype).min
    )


class DeepseekV3MLP(nn.Module):
    def __init__(self, config, intermediate_size=None):
        super().__init__()
        inner = intermediate_size or 96
        self.gate_proj = nn.Linear(config.hidden_size, inner, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, inner, bias=False)
        self.down_proj = nn.Linear(inner, config.hidden_size, bias=False)
        self.act_fn = ACT2FN["silu"]

    def forward(self, x):
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))


class MoEGate(nn.Module):
    """(ids, weights, nothing): sigmoid with a bias for the choice alone (Kimi-VL), or plain softmax (DeepSeek-VL2)."""

    def __init__(self, config):
        super().__init__()
        self.config, self.top_k = config, config.num_experts_per_tok
        self.weight = nn.Parameter(torch.empty(config.n_routed_experts, config.hidden_size))
        self.e_score_correction_bias = nn.Parameter(torch.zeros(config.n_routed_experts))

    def forward(self, hidden_states):
        logits = F.linear(hidden_states.reshape(-1, hidden_states.shape[-1]).float(), self.weight.float())
        if self.config.scoring_func == "sigmoid":
            scores = logits.sigmoid()
            chosen = (scores + self.e_score_correction_bias).topk(self.top_k, dim=-1, sorted=False).indices
        else:
            scores = logits.softmax(dim=-1)
            chosen = scores.topk(self.top_k, dim=-1, sorted=False).indices
        weights = scores.gather(1, chosen)
        if self.config.norm_topk_prob:
            weights = weights / (weights.sum(dim=-1, keepdim=True) + 1e-20)
        return chosen, weights * self.config.routed_scaling_factor, None


class DeepseekV3MoE(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config, self.num_experts_per_tok = config, config.num_experts_per_tok
        inner = config.moe_intermediate_size
        self.experts = nn.ModuleList([DeepseekV3MLP(config, inner) for _ in range(config.n_routed_experts)])
        self.gate = MoEGate(config)
        self.shared_experts = DeepseekV3MLP(config, inner)

    def forward(self, hidden_states):
        chosen, weights, _ = self.gate(hidden_states)
        flat = hidden_states.reshape(-1, hidden_states.shape[-1])
        return self.moe_infer(flat, chosen, weights).view(hidden_states.shape) + self.shared_experts(hidden_states)

    @torch.no_grad()
    def moe_infer(self, x, chosen, weights):
        order = chosen.ravel().argsort()
        rows = x[order // chosen.shape[1]]
        counts = torch.bincount(chosen.ravel(), minlength=len(self.experts)).tolist()
        parts = [expert(part) for expert, part in zip(self.experts, rows.split(counts), strict=True) if len(part)]
        made = torch.empty_like(rows)
        made[order] = torch.cat(parts)
        return (made.view(*chosen.shape, -1) * weights[..., None]).sum(dim=1).type(x.dtype)


class DeepseekV3Attention(nn.Module):
    def __init__(self, config, layer_idx):
        super().__init__()
        self.layer_idx, self.num_heads = layer_idx, config.num_attention_heads
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.kv_a_proj_with_mqa = nn.Linear(config.hidden_size, 16, bias=False)
        self.kv_b_proj = nn.Linear(16, 2 * config.hidden_size, bias=False)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, hidden_states, attention_mask=None, output_attentions=False, use_cache=False, **kwargs):
        heads = (*hidden_states.shape[:2], self.num_heads, -1)
        query = self.q_proj(hidden_states).view(heads).transpose(1, 2)
        key, value = self.kv_b_proj(self.kv_a_proj_with_mqa(hidden_states)).chunk(2, dim=-1)
        key, value = key.view(heads).transpose(1, 2), value.view(heads).transpose(1, 2)
        weights = query @ key.mT * query.shape[-1] ** -0.5 + attention_mask
        weights = weights.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
        output = self.o_proj((weights @ value).transpose(1, 2).reshape(hidden_states.shape))
        return output, weights if output_attentions else None, None


class DeepseekV3DecoderLayer(nn.Module):
    def __init__(self, config, layer_idx):
        super().__init__()
        self.self_attn = DeepseekV3Attention(config, layer_idx)
        self.mlp = DeepseekV3MoE(config) if layer_idx >= config.first_k_dense_replace else DeepseekV3MLP(config)
        self.input_layernorm = nn.RMSNorm(config.hidden_size)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size)

    def forward(self, hidden_states, attention_mask=None, output_attentions=False, use_cache=False):
        attended, weights, _ = self.self_attn(
            hidden_states=self.input_layernorm(hidden_states),
            attention_mask=attention_mask,
            output_attentions=output_attentions,
            use_cache=use_cache,
        )
        hidden_states = hidden_states + attended
        hidden_states = hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))
        return (hidden_states, weights) if output_attentions else (hidden_states,)


class DeepseekV3Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        layers = [DeepseekV3DecoderLayer(config, number) for number in range(config.num_hidden_layers)]
        self.layers, self.norm = nn.ModuleList(layers), nn.RMSNorm(config.hidden_size)

    def forward(self, inputs_embeds, attention_mask=None, output_attentions=False):
        states, seen, mask = inputs_embeds, [], causal_mask(attention_mask, inputs_embeds)
        for layer in self.layers:
            states, *weights = layer(states, attention_mask=mask, output_attentions=output_attentions)
            seen += weights
        return self.norm(states), tuple(seen)


class DeepseekV3ForCausalLM(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.model = DeepseekV3Model(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)


class Double(PreTrainedModel):
    """What the three share: pictures `[n, 3, S, S]` become one vision token a patch, put at the placeholders."""

    config_class = DoubleConfig
    _no_split_modules = ("DeepseekV3DecoderLayer", "MolmoDecoderLayer")

    def embed(self, input_ids, pixel_values):
        states = self.get_input_embeddings()(input_ids)
        if pixel_values is None:
            return states
        patches = self.eyes()(pixel_values.to(states.dtype)).flatten(2).mT.reshape(-1, states.shape[-1])
        place = (input_ids == self.config.placeholder)[..., None].expand_as(states)
        return states.masked_scatter(place, patches)


class KimiVLForConditionalGeneration(Double):
    """Kimi-VL-A3B: `vision_tower`, `multi_modal_projector`, `language_model`."""

    def __init__(self, config):
        super().__init__(config)
        self.vision_tower = nn.Conv2d(3, config.hidden_size, 4, stride=4)
        self.multi_modal_projector = nn.Linear(config.hidden_size, config.hidden_size)
        self.language_model = DeepseekV3ForCausalLM(config)
        self.post_init()

    def get_input_embeddings(self):
        return self.language_model.model.embed_tokens

    def eyes(self):
        return lambda pixels: self.multi_modal_projector(self.vision_tower(pixels).movedim(1, -1)).movedim(-1, 1)

    def forward(self, input_ids, attention_mask=None, pixel_values=None, use_cache=False, output_attentions=False):
        made = self.language_model.model(self.embed(input_ids, pixel_values), attention_mask, output_attentions)
        return CausalLMOutputWithPast(logits=self.language_model.lm_head(made[0]), attentions=made[1])


class DeepseekVLV2ForCausalLM(Double):
    """DeepSeek-VL2: `vision`, `projector`, `language`."""

    def __init__(self, config):
        super().__init__(config)
        self.vision = nn.Conv2d(3, config.hidden_size, 4, stride=4)
        self.projector = nn.Linear(config.hidden_size, config.hidden_size)
        self.language = DeepseekV3ForCausalLM(config)
        self.post_init()

    def get_input_embeddings(self):
        return self.language.model.embed_tokens

    def eyes(self):
        return lambda pixels: self.projector(self.vision(pixels).movedim(1, -1)).movedim(-1, 1)

    def forward(self, input_ids, attention_mask=None, pixel_values=None, use_cache=False, output_attentions=False):
        made = self.language.model(self.embed(input_ids, pixel_values), attention_mask, output_attentions)
        return CausalLMOutputWithPast(logits=self.language.lm_head(made[0]), attentions=made[1])


class MolmoAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.heads, width = config.num_attention_heads, config.hidden_size
        self.att_proj = nn.Linear(width, 3 * width, bias=False)
        self.attn_out = nn.Linear(width, width, bias=False)
        self.attn_norm = nn.RMSNorm(width)

    def _scaled_dot_product_attention(self, q, k, v, attn_mask=None, drop_mask=None, dropout_p=0.0, is_causal=False):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask, dropout_p=dropout_p, is_causal=is_causal)

    def forward(self, x, attention_bias=None):
        parts = self.att_proj(self.attn_norm(x)).chunk(3, dim=-1)
        q, k, v = (part.view(*x.shape[:2], self.heads, -1).transpose(1, 2) for part in parts)
        made = self._scaled_dot_product_attention(q, k, v, attn_mask=attention_bias, is_causal=attention_bias is None)
        return self.attn_out(made.transpose(1, 2).reshape(x.shape))


class MolmoeSparseMoeBlock(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.num_experts, self.top_k = config.n_routed_experts, config.num_experts_per_tok
        self.gate = nn.Linear(config.hidden_size, self.num_experts, bias=False)
        experts = [DeepseekV3MLP(config, config.moe_intermediate_size) for _ in range(self.num_experts)]
        self.experts, self.ff_norm = nn.ModuleList(experts), nn.RMSNorm(config.hidden_size)

    def forward(self, hidden_states):
        flat = self.ff_norm(hidden_states).view(-1, hidden_states.shape[-1])
        scores = self.gate(flat)
        weights, chosen = F.softmax(scores, dim=1, dtype=torch.float).topk(self.top_k, dim=-1)
        made = torch.zeros_like(flat)
        for number, expert in enumerate(self.experts):
            place, rows = torch.where((chosen == number).mT)
            made.index_add_(0, rows, expert(flat[rows]) * weights.to(flat.dtype)[rows, place, None])
        return made.view(hidden_states.shape), scores


class MolmoDecoderLayer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.attn, self.mlp = MolmoAttention(config), MolmoeSparseMoeBlock(config)

    def forward(self, x, attention_bias=None):
        x = x + self.attn(x, attention_bias=attention_bias)
        return x + self.mlp(x)[0]


class MolmoModel(nn.Module):
    def __init__(self, config):
        super().__init__()
        blocks = nn.ModuleList([MolmoDecoderLayer(config) for _ in range(config.num_hidden_layers)])
        wte = nn.Embedding(config.vocab_size, config.hidden_size)
        self.transformer = nn.ModuleDict({"wte": wte, "ln_f": nn.RMSNorm(config.hidden_size), "blocks": blocks})
        self.vision_backbone = nn.Conv2d(3, config.hidden_size, 4, stride=4)


class MolmoForCausalLM(Double):
    """MolmoE-1B: `model.transformer.blocks`, `model.vision_backbone`."""

    def __init__(self, config):
        super().__init__(config)
        self.model = MolmoModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self):
        return self.model.transformer.wte

    def eyes(self):
        return self.model.vision_backbone

    def forward(self, input_ids, attention_mask=None, pixel_values=None, use_cache=False):
        states = self.embed(input_ids, pixel_values)
        mask = causal_mask(attention_mask, states)
        for layer in self.model.transformer.blocks:
            states = layer(states, attention_bias=mask)
        return CausalLMOutputWithPast(logits=self.lm_head(self.model.transformer.ln_f(states)))
