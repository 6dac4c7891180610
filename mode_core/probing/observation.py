"""What the probe tells: one bank's tokens, their experts, and what the bank made of them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mode_core.models import Encoded, ExpertBank


@dataclass(frozen=True)
class Observation:
    """What one bank saw in one batch; T = batch × L rows, padding included (see `encoded.modality`).

    `states` `[T, H]` entered the bank, `output` `[T, H]` left it; `experts` int64 and `weights` `[T, k]` are the
    router's choice. `importance[signal]` `[batch, L]` ranks the vision tokens (higher = kept first). What an expert
    itself gets and gives follows by `bank.entering` and `bank.leaving`.

    In families with several banks a layer, each seeing a part of the positions (ERNIE-VL: one bank for text, one for
    vision), all other positions count as padding in this observation's `encoded.modality`, and their rows are zero.

    `source` is the tensor of the model's own pass in which the output stands, `rows` int64 which of the T positions its
    rows are (None: all, in order): `placed(gradient)` is the gradient at `output` of a gradient at `source`.
    """

    bank: ExpertBank
    encoded: Encoded
    states: Tensor
    experts: Tensor
    weights: Tensor
    output: Tensor
    importance: dict[str, Tensor]
    source: Tensor | None = None
    rows: Tensor | None = None

    def placed(self, values: Tensor) -> Tensor:
        """Values in the form of `source` → `[T, …]`, zero for positions that the bank does not see."""
        flat = values.reshape(-1, self.bank.hidden)
        if self.rows is None:
            return flat
        return flat.new_zeros(self.encoded.modality.numel(), self.bank.hidden).index_copy_(0, self.rows, flat)
