"""Observations of one bank → the sums of its `BankStatistics`, scattered without a loop over tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mode_core.calibration.probe import Observation
from mode_core.calibration.redundancy import redundancy_bins
from mode_core.calibration.sensitivity import RoundedBank
from mode_core.calibration.settings import CalibrationSettings
from mode_core.models import PADDING, TEXT, VISION, ExpertBank
from mode_core.statistics import BINS, FOLDS, BankShape, BankStatistics, fold_of


class BankSums:
    """Running float64 sums of one bank on the CPU.

    One row per (fold, expert) for text and per (fold, expert, bin) for vision; columns: selections, routing weight,
    support, error at each width, gated error at each width. Adding a batch touches only the rows of its tokens.

    Memory: `FOLDS × E × (1 + 100 × signals) × (3 + 2B)` doubles; it does not grow with the samples.
    """

    def __init__(self, bank: ExpertBank, rounded: RoundedBank, settings: CalibrationSettings):
        self.bank, self.rounded, self.settings = bank, rounded, settings
        columns = 3 + 2 * len(settings.bits)
        self.text = _zeros(FOLDS * bank.experts, columns)
        self.vision = {signal: _zeros(FOLDS * bank.experts * BINS, columns) for signal in settings.signals}
        self.text_tokens = _zeros(FOLDS, 2)  # columns: tokens, energy of the bank's output
        self.vision_tokens = {signal: _zeros(FOLDS * BINS, 2) for signal in settings.signals}
        self.entering = _zeros(FOLDS, 2)  # columns: energy of what enters the bank, tokens
        self.fisher = FisherSums(bank, rounded, settings) if settings.gradients else None
        self.hessian = torch.zeros(FOLDS, bank.experts, 3, dtype=torch.float64)  # traces of gate, up, down
        self.hessian_samples = torch.zeros(FOLDS, dtype=torch.float64)

    def add(self, seen: Observation) -> None:
        """Count one batch. Padding is left out, though the model routes it too."""
        used, fold, kind, bins = _places(seen, self.settings.signals)
        states, output = seen.states[used], seen.output[used]
        self._add_tokens(fold, kind, bins, states, output)
        self._add_pairs(fold, kind, bins, states, seen.experts[used], seen.weights[used])

    def add_gradients(self, seen: Observation, squared: Tensor) -> None:
        """Count one batch of the gradient pass: `squared` `[2, T, H]`, g² at the output, plain and softened."""
        self.fisher.add(seen, squared)

    def add_hessian(self, fold: int, trace: Tensor, samples: float) -> None:
        """Count one sample's (or its share `samples` of one) Hessian traces `[E, 3]`."""
        self.hessian[fold] += trace.cpu()
        self.hessian_samples[fold] += samples

    def _add_tokens(self, fold: Tensor, kind: Tensor, bins: dict[str, Tensor], states: Tensor, output: Tensor) -> None:
        ones = torch.ones(len(fold), dtype=torch.float64, device=fold.device)
        tokens = torch.stack([ones, output.double().square().sum(dim=1)], dim=1)
        text, vision = kind == TEXT, kind == VISION
        _scatter(self.text_tokens, fold[text], tokens[text])
        for signal, sums in self.vision_tokens.items():
            _scatter(sums, (fold * BINS + bins[signal])[vision], tokens[vision])
        _scatter(self.entering, fold, torch.stack([states.double().square().sum(dim=1), ones], dim=1))

    def _add_pairs(
        self,
        fold: Tensor,
        kind: Tensor,
        bins: dict[str, Tensor],
        states: Tensor,
        experts: Tensor,
        weights: Tensor,
    ) -> None:
        """The same per selection: token t and each of its k experts."""
        top_k = experts.shape[1]
        token = torch.arange(len(fold), device=fold.device).repeat_interleave(top_k)
        chosen, values = experts.ravel(), self._values(states, token, experts.ravel(), weights.ravel())
        row = fold[token] * self.bank.experts + chosen
        text, vision = kind[token] == TEXT, kind[token] == VISION
        _scatter(self.text, row[text], values[text])
        for signal, sums in self.vision.items():
            _scatter(sums, (row * BINS + bins[signal][token])[vision], values[vision])

    def _values(self, states: Tensor, token: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """Columns of every selection, float64 `[S, 3 + 2B]`."""
        gate = weights.double()
        ones = torch.ones_like(gate)
        values = _zeros(len(gate), self.text.shape[1]).to(gate.device)
        values[:, 0], values[:, 1] = ones, gate
        if self.settings.sensitivity:
            errors = self.rounded.errors(self.bank.entering(states[token], weights), chosen).double()
            count = errors.shape[1]
            values[:, 2] = ones
            values[:, 3 : 3 + count], values[:, 3 + count :] = (
                errors,
                errors * self.bank.leaving(gate).square()[:, None],
            )
        return values

    def statistics(self) -> BankStatistics:
        """What was summed so far."""
        bank, bits = self.bank, self.settings.bits
        shape = BankShape(bank.layer, bank.experts, bank.hidden, bank.intermediate, bank.top_k, bank.has_gate)
        made = BankStatistics.empty(bank.name, shape, bits, self.settings.signals, extras=self.settings.extras)
        _fill(made.arrays, "text_{}", self.text.numpy().reshape(FOLDS, bank.experts, -1), len(bits))
        made.arrays["text_tokens"][:], made.arrays["text_energy"][:] = self.text_tokens.numpy().T
        for signal, sums in self.vision.items():
            table = sums.numpy().reshape(FOLDS, bank.experts, BINS, -1)
            _fill(made.arrays, f"vision_{{}}/{signal}", table, len(bits))
            tokens = self.vision_tokens[signal].numpy().reshape(FOLDS, BINS, 2)
            made.arrays[f"vision_tokens/{signal}"][:] = tokens[..., 0]
            made.arrays[f"vision_energy/{signal}"][:] = tokens[..., 1]
        made.arrays["input_energy"][:], made.arrays["input_tokens"][:] = self.entering.numpy().T
        made.arrays["weight_norm"][:] = self.rounded.weight_norm.numpy()
        made.arrays["weight_error"][:] = self.rounded.weight_error.numpy()
        if self.fisher is not None:
            self.fisher.fill(made.arrays)
        if "hessian" in made.extras:
            made.arrays["hessian_trace"][:] = self.hessian.numpy()
            made.arrays["hessian_samples"][:] = self.hessian_samples.numpy()
        return made


class FisherSums:
    """Running sums of the gradient pass of one bank, laid out as in `BankSums`.

    Columns of a pair: support, Fisher damage at each width, softened Fisher damage at each; of a token: one, ‖g‖².
    Memory: `FOLDS × E × (1 + 100 × signals) × (1 + 2B)` doubles.
    """

    def __init__(self, bank: ExpertBank, rounded: RoundedBank, settings: CalibrationSettings):
        self.bank, self.rounded, self.signals = bank, rounded, settings.signals
        columns = 1 + 2 * len(settings.bits)
        self.text, self.text_tokens = _zeros(FOLDS * bank.experts, columns), _zeros(FOLDS, 2)
        self.vision = {signal: _zeros(FOLDS * bank.experts * BINS, columns) for signal in settings.signals}
        self.vision_tokens = {signal: _zeros(FOLDS * BINS, 2) for signal in settings.signals}

    def add(self, seen: Observation, squared: Tensor) -> None:
        """One batch; `squared` `[2, T, H]` is g² at the bank's output, plain and softened. Padding is left out."""
        used, fold, kind, bins = _places(seen, self.signals)
        squared, chosen = squared[:, used], seen.experts[used]
        damage = self.rounded.weighted_errors(seen.states[used], squared.sqrt(), chosen, seen.weights[used]).double()
        pairs = torch.cat([torch.ones_like(damage[0, ..., :1]), *damage], dim=2)
        energy = squared[0].double().sum(dim=1)
        tokens = torch.stack([torch.ones_like(energy), energy], dim=1)
        row = fold[:, None] * self.bank.experts + chosen
        text, vision = kind == TEXT, kind == VISION
        _scatter(self.text, row[text].ravel(), pairs[text].flatten(0, 1))
        _scatter(self.text_tokens, fold[text], tokens[text])
        for signal in self.signals:
            place = bins[signal][vision]
            _scatter(self.vision[signal], (row[vision] * BINS + place[:, None]).ravel(), pairs[vision].flatten(0, 1))
            _scatter(self.vision_tokens[signal], fold[vision] * BINS + place, tokens[vision])

    def fill(self, arrays: dict[str, np.ndarray]) -> None:
        """Write the sums into the arrays of a `BankStatistics`."""
        self._fill(arrays, "text_{}", self.text.numpy().reshape(FOLDS, self.bank.experts, -1))
        arrays["text_fisher_tokens"][:], arrays["text_gradient_energy"][:] = self.text_tokens.numpy().T
        for signal in self.signals:
            name = f"vision_{{}}/{signal}"
            self._fill(arrays, name, self.vision[signal].numpy().reshape(FOLDS, self.bank.experts, BINS, -1))
            tokens = self.vision_tokens[signal].numpy().reshape(FOLDS, BINS, 2)
            arrays[name.format("fisher_tokens")][:] = tokens[..., 0]
            arrays[name.format("gradient_energy")][:] = tokens[..., 1]

    @staticmethod
    def _fill(arrays: dict[str, np.ndarray], name: str, table: np.ndarray) -> None:
        arrays[name.format("fisher_support")][:] = table[..., 0]
        widths = table.shape[-1] // 2
        arrays[name.format("fisher")][:] = np.moveaxis(table[..., 1 : 1 + widths], -1, 2)
        arrays[name.format("soft_fisher")][:] = np.moveaxis(table[..., 1 + widths :], -1, 2)


def _places(seen: Observation, signals: Sequence[str]) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
    """Of every position that is no padding: its row in the batch, fold, modality, and bin by each signal."""
    modality = seen.encoded.modality.ravel()
    used = torch.nonzero(modality != PADDING).ravel()
    folds = torch.tensor([fold_of(i) for i in seen.encoded.ids], device=modality.device)
    fold = folds.repeat_interleave(seen.encoded.modality.shape[1])[used]
    bins = {s: redundancy_bins(seen.importance[s], seen.encoded.modality).ravel()[used] for s in signals}
    return used, fold, modality[used], bins


def _zeros(rows: int, columns: int) -> Tensor:
    return torch.zeros(rows, columns, dtype=torch.float64)


def _scatter(sums: Tensor, rows: Tensor, values: Tensor) -> None:
    """Add each row of values to its row of the sums."""
    sums.index_add_(0, rows.cpu(), values.cpu())


def _fill(arrays: dict[str, np.ndarray], name: str, table: np.ndarray, widths: int) -> None:
    """Columns of `[fold, E(, bin), column]` → the named arrays; widths come right after the experts."""
    for column, key in enumerate(("selections", "weight", "support")):
        arrays[name.format(key)][:] = table[..., column]
    for first, key in ((3, "error"), (3 + widths, "gated_error")):
        arrays[name.format(key)][:] = np.moveaxis(table[..., first : first + widths], -1, 2)
