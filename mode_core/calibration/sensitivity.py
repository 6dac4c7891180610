"""How far the output of an expert moves when its weights are rounded, token by token (paper §5).

Error of one routed token x at b bits: ‖E(x) − E_b(x)‖², the expert's own output before the router's weight. Both
outputs are computed in float32 from the model's own weights and from what their b-bit codes stand for, so that the
rounding of the model's activations is not counted as damage. At 0 bits the expert is left out, biases and all: its
error is ‖E(x)‖².
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import grouped_mm

from mode_core.calibration.rounding import SIDES, BankGrids, find_grids
from mode_core.calibration.settings import CalibrationSettings
from mode_core.models import ExpertBank
from mode_core.models.offloading import in_memory
from mode_core.quantization.regrid import regrid
from mode_core.quantization.widths import DROPPED, group_length


@dataclass
class RoundedBank:
    """One bank's weights at every width. The scales were searched for once; see `rounding`.

    With `stacked` the rounded weights themselves are kept, float32 `[1 + B, E, rows, in]` per side with the original
    first: faster for small models. Without, an expert's weights are rounded again to the known scales when its tokens
    come. Either way the numbers are the same.

    Memory: (1 + B) times the bank's weights in float32 where stacked; else the scales.
    """

    bank: ExpertBank
    settings: CalibrationSettings
    grids: BankGrids
    stacked: dict[str, Tensor] | None = None

    @classmethod
    def of(
        cls,
        bank: ExpertBank,
        settings: CalibrationSettings,
        stack: bool = True,
        revision: str = "",
        folder: Path | None = None,
        watch: Callable[[], None] = lambda: None,
    ) -> RoundedBank:
        """Find the grids of all experts of a bank at every width of the settings; arguments as in `find_grids`."""
        made = cls(bank, settings, find_grids(bank, settings, revision, folder, watch))
        if stack and settings.sensitivity:
            with in_memory(bank.module):
                made.stacked = {side: made._stack(side) for side in SIDES}
        return made

    @property
    def weight_norm(self) -> Tensor:
        """‖W‖ of gate, up, down: `[E, 3]`."""
        return self.grids.weight_norm

    @property
    def weight_error(self) -> Tensor:
        """‖W − W_b‖² of gate, up, down: `[E, B, 3]`."""
        return self.grids.weight_error

    @property
    def columns(self) -> int:
        """Numbers that `errors` gives for a selection."""
        return len(self.settings.bits) + self.settings.saliency

    def errors(self, batches: Sequence[tuple[Tensor, Tensor, Tensor]]) -> list[Tensor]:
        """‖E(x) − E_b(x)‖² of routed tokens, for each batch (states x `[T, H]`, the k experts of every token int
        `[T, k]`, their routing weights `[T, k]`, which only some families' experts see) float32 `[T, k, B]`; with
        `saliency` one more column, ‖E(x)‖².

        An expert's weights are rounded once for all batches; each batch's tokens are multiplied by themselves, so that
        the numbers do not depend on what they are measured together with. Memory: (1 + B) × the expert's weights in
        float32, and (1 + B) × its tokens of one batch × (2I + H).
        """
        if self.stacked is not None and self._grouped_runs():
            return [self._grouped(*batch) for batch in batches]
        found = [states.new_zeros(e.numel(), self.columns, dtype=torch.float32) for states, e, _ in batches]
        rows = [dict(_by_expert(experts.ravel(), self.bank.experts)) for _, experts, _ in batches]
        with in_memory(self.bank.module):
            for expert in sorted(set().union(*rows)):
                matrices = self._matrices(expert)
                for (states, experts, weights), mine, errors in zip(batches, rows, found, strict=True):
                    if (picked := mine.get(expert)) is not None:
                        entering = self.bank.entering(states[picked // experts.shape[1]], weights.ravel()[picked])
                        moved = self._moved(entering, expert, matrices, self.settings.saliency)
                        errors[picked] = moved.square_().sum(dim=2).mT
        return [errors.reshape(*experts.shape, -1) for (_, experts, _), errors in zip(batches, found, strict=True)]

    def _grouped_runs(self) -> bool:
        """Can torch multiply all experts' tokens in one call? It does float32 on a CPU, with rows of whole 16 bytes."""
        plain = self.stacked["up"].device.type == "cpu" and not self.bank.storage.has_bias
        return plain and all(stack.shape[-1] % 4 == 0 and stack.shape[-2] % 4 == 0 for stack in self.stacked.values())

    def _grouped(self, states: Tensor, experts: Tensor, weights: Tensor) -> Tensor:
        """`errors` of one batch, all experts at once, one width after another."""
        order = experts.ravel().argsort(stable=True)
        ends = torch.bincount(experts.ravel(), minlength=self.bank.experts).cumsum(0).int()
        entering = self.bank.entering(states[order // experts.shape[1]], weights.ravel()[order]).float()
        outputs = []
        for up, down in zip(*(self.stacked[side] for side in SIDES), strict=True):
            inner = self.bank.storage.activate(grouped_mm(entering, up.mT, offs=ends))
            outputs.append(self.bank.storage.finish(grouped_mm(inner, down.mT, offs=ends)))
        moved = [output - outputs[0] for output in outputs[1:]] + outputs[:1] * self.settings.saliency
        errors = torch.stack([one.square_().sum(dim=1) for one in moved], dim=1)
        return torch.empty_like(errors).index_copy_(0, order, errors).reshape(*experts.shape, -1)

    def weighted_errors(self, states: Tensor, factors: Tensor, experts: Tensor, weights: Tensor) -> Tensor:
        """Σ_d (v_d·w·(E(x) − E_b(x))_d)² of routed tokens, `[F, T, k, B]` float32: states x `[T, H]`, F factors v for
        each `[F, T, H]`, the k experts of every token int `[T, k]` and their routing weights w `[T, k]`.

        Memory: as `errors`; states and factors are gathered expert by expert.
        """
        top_k = experts.shape[1]
        errors = torch.zeros(len(factors), experts.numel(), len(self.settings.bits), device=states.device)
        with in_memory(self.bank.module):
            for expert, rows in _by_expert(experts.ravel(), self.bank.experts):
                tokens, gates = rows // top_k, weights.ravel()[rows]
                moved = self.differences(self.bank.entering(states[tokens], gates), expert)
                moved = (moved * self.bank.leaving(gates)[:, None].float()).square()
                errors[:, rows] = torch.einsum("bnh,fnh->fnb", moved, factors[:, tokens].float().square())
        return errors.reshape(len(factors), *experts.shape, -1)

    def differences(self, states: Tensor, expert: int) -> Tensor:
        """E_b(x) − E(x) of one expert at every width: `[n, H]` → `[B, n, H]` float32."""
        return self._moved(states, expert, self._matrices(expert))

    def _matrices(self, expert: int) -> list[tuple[Tensor, Tensor]]:
        """One expert's (up, down) in float32: as they are, then at every width."""
        if self.stacked is not None:
            return list(zip(*(self.stacked[side][:, expert] for side in SIDES), strict=True))
        weights = {side: self.bank.fused_one(side, expert) for side in SIDES}
        made = [tuple(weights[side].float() for side in SIDES)]
        for bits in self.settings.bits:
            made.append(tuple(self._rounded(side, bits, expert, weights[side]) for side in SIDES))
        return made

    def _moved(
        self, states: Tensor, expert: int, matrices: list[tuple[Tensor, Tensor]], with_own: bool = False
    ) -> Tensor:
        """E_b(x) − E(x) with these matrices, `[B, n, H]` float32; `with_own` E(x) behind them."""
        states = states.float()
        own = self.bank.expert_forward(states, *matrices[0], expert)
        moved = [
            -own if bits == DROPPED else self.bank.expert_forward(states, *pair, expert) - own
            for bits, pair in zip(self.settings.bits, matrices[1:], strict=True)
        ]
        return torch.stack(moved + [own] * with_own)

    def _rounded(self, side: str, bits: int, expert: int, weights: Tensor) -> Tensor:
        """One expert's weights `[rows, in]` as their codes stand for them, float32."""
        scales, zeros = (None if t is None else t.to(weights.device) for t in self.grids.grid(side, bits, expert))
        return regrid(weights, scales, zeros, bits, group_length(weights.shape[1], self.settings.group_size))

    def _stack(self, side: str) -> Tensor:
        """The original and every width of one side, `[1 + B, E, rows, in]` float32."""
        weights = self.bank.fused(side)
        stack = torch.empty(1 + len(self.settings.bits), *weights.shape, device=weights.device)
        stack[0] = weights
        for place, bits in enumerate(self.settings.bits, 1):
            for expert in range(self.bank.experts):
                stack[place, expert] = self._rounded(side, bits, expert, weights[expert])
        return stack


def stacked_bytes(banks: list[ExpertBank], settings: CalibrationSettings) -> int:
    """What the rounded weights of all these banks take in memory, where they are kept (`RoundedBank.stacked`)."""
    matrices = sum(b.experts * b.hidden * b.intermediate * len(b.projections) for b in banks)
    return 4 * (1 + len(settings.bits)) * matrices


def _by_expert(experts: Tensor, count: int) -> list[tuple[int, Tensor]]:
    """Experts int `[S]` of `count` → (expert, its rows) of every expert that has any."""
    rows = experts.argsort(stable=True).split(torch.bincount(experts, minlength=count).tolist())
    return [(expert, mine) for expert, mine in enumerate(rows) if len(mine)]
