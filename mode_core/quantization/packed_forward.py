"""A forward that computes from packed codes: what a token needs is unpacked, used and forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mode_core.models import ExpertBank
from mode_core.quantization.packing import PackedMatrix

Stored = Mapping[tuple[int, str], PackedMatrix | Tensor]  # (expert, projection) -> codes, or the matrix as it was


class PackedBank:
    """One bank's experts as packed codes, called as transformers calls the bank.

    Memory: while it runs, one expert's matrices in the model's type and the intermediate values of its tokens.
    """

    def __init__(self, bank: ExpertBank, stored: Stored):
        self.bank, self.stored, self.dtype = bank, stored, bank.dtype
        self.rows = {projection: bank.rows(projection) for projection in bank.projections[:-1]}

    def forward(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor, *_: Any, **__: Any) -> Tensor:
        """States `[T, H]`, experts `[T, k]` and routing weights `[T, k]` → the bank's output `[T, H]`."""
        output = torch.zeros_like(hidden_states)
        for expert in top_k_index.unique().tolist():
            if not 0 <= expert < self.bank.experts:  # transformers marks places without an expert so
                continue
            rows, slots = torch.where(top_k_index == expert)
            made = self.bank.expert_forward(hidden_states[rows], self.fused_up(expert), self.down(expert), expert)
            output.index_add_(0, rows, (made * top_k_weights[rows, slots, None]).to(output.dtype))
        return output

    def matrix(self, projection: str, expert: int) -> Tensor:
        """One expert's matrix `[out, in]` in the model's type."""
        stored = self.stored[expert, projection]
        return stored if isinstance(stored, Tensor) else stored.dequantize(self.dtype)

    def down(self, expert: int) -> Tensor:
        """`[H, I]`."""
        return self.matrix("down", expert)

    def fused_up(self, expert: int) -> Tensor:
        """`[2I or I, H]`, rows in the order of the bank's own storage."""
        if not self.bank.has_gate:
            return self.matrix("up", expert)
        gate, up = (self.matrix(projection, expert) for projection in ("gate", "up"))
        fused = torch.empty(2 * len(up), up.shape[1], dtype=up.dtype, device=up.device)
        fused[self.rows["gate"]], fused[self.rows["up"]] = gate, up
        return fused


class PackedLinear:
    """One linear layer as packed codes."""

    def __init__(self, linear: nn.Linear, stored: PackedMatrix):
        self.linear, self.stored, self.dtype = linear, stored, linear.weight.dtype

    def forward(self, input: Tensor) -> Tensor:
        """`[..., in]` → `[..., out]`."""
        return nn.functional.linear(input, self.stored.dequantize(self.dtype), self.linear.bias)
