"""The training-time forward pass: the model's own modules, batched over pictures, with answer losses."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from sample_data.batches import CELLS, IGNORED, Batch
from sample_data.pictures import GRID, LABELS
from sample_data.words import BLANK


def vision_features(visual: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """[B,64,768] patches -> [B,64,H]: what `visual` computes, all pictures in one attention call."""
    from transformers.models.qwen3_vl_moe.modeling_qwen3_vl_moe import apply_rotary_pos_emb_vision

    batch = pixels.shape[0]
    conv = visual.patch_embed.proj
    weight = conv.weight.sum(2).flatten(1)  # both frames of a still picture are the same
    hidden = F.linear(pixels, weight, conv.bias) + visual.pos_embed.weight
    cells = torch.arange(CELLS, device=pixels.device)
    cos, sin = visual.rotary_pos_emb(hidden, torch.stack([cells // GRID, cells % GRID], dim=-1))
    for block in visual.blocks:
        attention = block.attn
        qkv = attention.qkv(block.norm1(hidden)).reshape(batch, CELLS, 3, attention.num_heads, -1)
        query, key, value = qkv.unbind(2)
        query, key = apply_rotary_pos_emb_vision(query, key, cos, sin)
        mixed = F.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (query, key, value)))
        hidden = hidden + attention.proj(mixed.transpose(1, 2).flatten(2))
        hidden = hidden + block.mlp(block.norm2(hidden))
    return visual.merger(hidden.reshape(batch * CELLS, -1)).reshape(batch, CELLS, -1)


def label_loss(
    features: torch.Tensor, labels: torch.Tensor, embedding: torch.Tensor, token: dict[str, int]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """How badly the words of each cell are read off its vision token by dot products with the word vectors."""
    total = features.new_zeros(())
    right: dict[str, torch.Tensor] = {}
    flat, wanted = features.flatten(0, 1), labels.flatten(0, 1)
    for i, (kind, words) in enumerate(LABELS.items()):
        table = embedding[[token[word] for word in (BLANK, *words)]]
        logits = flat @ table.T
        target = wanted[:, i]
        seen = target > 0
        loss = F.cross_entropy(logits, target, reduction="none")
        for part in (seen, ~seen):
            total = total + (loss * part).sum() / part.sum().clamp(min=1)
        right[kind] = (logits.argmax(-1) == target)[seen].float().mean()
    return total / len(LABELS), right


class RouterTally:
    """Keeps the routers' logits of the forward passes since the last `balance`, to keep all experts in use."""

    def __init__(self, model: nn.Module) -> None:
        self.seen: dict[int, list[torch.Tensor]] = {}
        for i, layer in enumerate(model.model.language_model.layers):
            layer.mlp.gate.register_forward_hook(self._hook(i))

    def _hook(self, layer: int):
        def keep(_module: nn.Module, _inputs: tuple, output: tuple) -> None:
            if torch.is_grad_enabled():
                self.seen.setdefault(layer, []).append(output[0])

        return keep

    def balance(self) -> torch.Tensor:
        """Switch-style balance over picture and text passes together (1 = even), so that they may differ."""
        losses = []
        for passes in self.seen.values():
            shares, odds = [], []
            for logits in passes:
                chance = logits.softmax(-1)
                chosen = torch.zeros_like(chance).scatter_(1, chance.topk(2, dim=-1).indices, 0.5)
                shares.append(chosen.mean(0).detach())
                odds.append(chance.mean(0))
            share, odd = torch.stack(shares).mean(0), torch.stack(odds).mean(0)
            losses.append((share * odd).sum() * odd.numel())
        self.seen.clear()
        return torch.stack(losses).mean()


def answer_losses(
    model: nn.Module, batch: Batch
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Loss [N] and hit [N] of each answer token, its task [N], and the vision features [B,64,H] if any."""
    embedding = model.get_input_embeddings()
    embedded, features = embedding(batch.ids), None
    if batch.pixels is not None:
        features = vision_features(model.model.visual, batch.pixels)
        where = batch.ids == model.config.image_token_id
        embedded = embedded.masked_scatter(where[..., None], features.to(embedded.dtype))
    hidden = model.model.language_model(
        inputs_embeds=embedded,
        position_ids=batch.positions,
        attention_mask=batch.mask,
        use_cache=False,
    ).last_hidden_state
    asked = batch.targets != IGNORED
    logits, targets = model.lm_head(hidden[asked]), batch.targets[asked]
    losses = F.cross_entropy(logits, targets, reduction="none")
    return losses, logits.argmax(-1) == targets, batch.tasks[asked], features
