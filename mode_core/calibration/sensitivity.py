"""How far the output of an expert moves when its weights are rounded, token by token (paper §5).

Error of one routed token x at b bits: ‖E(x) − E_b(x)‖², the expert's own output before the router's weight. Both
outputs are computed in float32 from the model's own weights and from what their b-bit codes stand for, so that the
rounding of the model's activations is not counted as damage.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mode_core.calibration.settings import CalibrationSettings
from mode_core.models import PROJECTIONS, ExpertBank
from mode_core.quantization.grids import fake_quantize


@dataclass(frozen=True)
class RoundedBank:
    """One bank's weights as they are and at every width, made once.

    `up` `[E, 1 + B, rows, H]` and `down` `[E, 1 + B, H, I]` hold the original first, in the model's type (empty where
    only frequencies are measured). `weight_norm` `[E, 3]` and `weight_error` `[E, B, 3]` (squared) are in the order
    gate, up, down; zero for a matrix that the family lacks.

    Memory: (1 + B) times the bank's weights.
    """

    bank: ExpertBank
    up: Tensor | None
    down: Tensor | None
    weight_norm: Tensor
    weight_error: Tensor

    @classmethod
    def of(cls, bank: ExpertBank, settings: CalibrationSettings) -> RoundedBank:
        """Round all experts of a bank to every width of the settings."""
        sides = {side: _rounded(bank.fused(side), settings) for side in ("up", "down")}
        norm = torch.zeros(bank.experts, 3, dtype=torch.float64)
        error = torch.zeros(bank.experts, len(settings.bits), 3, dtype=torch.float64)
        for projection in bank.projections:
            rows = _rows(bank, projection)
            stack = sides["down" if projection == "down" else "up"][:, :, rows].double()
            column = PROJECTIONS.index(projection)
            norm[:, column] = stack[:, 0].flatten(1).norm(dim=1).cpu()
            error[:, :, column] = (stack[:, 1:] - stack[:, :1]).square().sum(dim=(2, 3)).cpu()
        kept = (sides["up"], sides["down"]) if settings.sensitivity else (None, None)
        return cls(bank, *kept, norm, error)

    def errors(self, states: Tensor, experts: Tensor) -> Tensor:
        """‖E(x) − E_b(x)‖² of routed tokens: states `[S, H]`, their experts int `[S]` → `[S, B]` float32.

        Every expert computes all its tokens at all widths in one go. Memory: (1 + B) × tokens of one expert × (2I + H).
        """
        found = torch.zeros(len(states), self.up.shape[1] - 1, device=states.device)
        order = experts.argsort(stable=True)
        counts = torch.bincount(experts, minlength=self.bank.experts).tolist()
        for expert, rows in enumerate(order.split(counts)):
            if len(rows):
                found[rows] = self._differences(states[rows], expert).square().sum(dim=2).mT
        return found

    def weighted_errors(self, states: Tensor, factors: Tensor, experts: Tensor, weights: Tensor) -> Tensor:
        """Σ_d (v_d·w·(E(x) − E_b(x))_d)² of routed tokens, `[T, k, B]` float32: states x and factors v `[T, H]`,
        the k experts of every token int `[T, k]` and their routing weights w `[T, k]`.

        Memory: as `errors`; states and factors are gathered expert by expert.
        """
        top_k = experts.shape[1]
        found = torch.zeros(experts.numel(), len(self.weight_error[0]), device=states.device)
        order = experts.ravel().argsort(stable=True)
        counts = torch.bincount(experts.ravel(), minlength=self.bank.experts).tolist()
        for expert, rows in enumerate(order.split(counts)):
            if len(rows):
                tokens = rows // top_k
                scale = factors[tokens].float() * weights.ravel()[rows, None].float()
                found[rows] = (self._differences(states[tokens], expert) * scale).square().sum(dim=2).mT
        return found.reshape(*experts.shape, -1)

    def _differences(self, states: Tensor, expert: int) -> Tensor:
        """E_b(x) − E(x) of one expert at every width: `[n, H]` → `[B, n, H]` float32."""
        up, down = self.up[expert].float(), self.down[expert].float()
        outputs = self.bank.expert_forward(states.float(), up, down, expert)
        return outputs[1:] - outputs[:1]


def _rounded(weights: Tensor, settings: CalibrationSettings) -> Tensor:
    """`[E, out, in]` → `[E, 1 + B, out, in]`, the original first."""
    made = [fake_quantize(weights, bits, settings.group_size, settings.symmetric) for bits in settings.bits]
    return torch.stack([weights, *made], dim=1)


def _rows(bank: ExpertBank, projection: str) -> slice:
    """Which rows of its side a projection has."""
    if projection == "down" or not bank.has_gate:
        return slice(None)
    if not bank.module.is_concatenated:
        return slice(0 if projection == "gate" else 1, None, 2)
    return slice(0, bank.intermediate) if projection == "gate" else slice(bank.intermediate, None)
