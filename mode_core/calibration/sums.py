"""Observations of one bank → the sums of its `BankStatistics`, scattered without a loop over tokens."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mode_core.calibration.sensitivity import RoundedBank
from mode_core.calibration.settings import CalibrationSettings
from mode_core.modalities import CODES, MODALITIES, USUAL
from mode_core.models import PADDING, Encoded, ExpertBank
from mode_core.models.offloading import is_offloaded
from mode_core.probing.observation import Observation
from mode_core.probing.redundancy import redundancy_bins
from mode_core.statistics import BINS, FOLDS, BankShape, BankStatistics, fold_of
from mode_core.statistics.bank_statistics import endings

POOL = 4096  # tokens that wait to be added together
POOL_BYTES = 16 << 20  # of states that a bank lets wait


class Places:
    """Where the tokens of a batch belong, found once for all banks: fold, modality, and bin by each signal."""

    def __init__(self, signals: Sequence[str]):
        self.signals = tuple(signals)
        self._encoded: Encoded | None = None
        self._known: dict[str, tuple[Tensor, Tensor]] = {}  # signal -> the scores that were ranked, and the bins

    def of(self, seen: Observation) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        """Of every position that is no padding: its row `[n]` in the batch, fold, modality, and bin by each signal."""
        if self._encoded is not seen.encoded:
            self._begin(seen.encoded)
        fresh = [name for name in self.signals if not self._ranked(name, seen.importance[name])]
        if fresh:
            scores = torch.cat([seen.importance[name] for name in fresh])
            bins = redundancy_bins(scores, seen.encoded.modality.repeat(len(fresh), 1))
            for name, part in zip(fresh, bins.chunk(len(fresh)), strict=True):
                self._known[name] = seen.importance[name], part.ravel()[self._used]
        return self._used, self._fold, self._kind, {name: self._known[name][1] for name in self.signals}

    def _ranked(self, name: str, scores: Tensor) -> bool:
        """Signals that do not differ from layer to layer hand the same tensor to every bank."""
        return name in self._known and self._known[name][0] is scores

    def _begin(self, encoded: Encoded) -> None:
        modality = encoded.modality.ravel()
        self._encoded, self._known = encoded, {}
        self._used = torch.nonzero(modality != PADDING).ravel()
        folds = torch.tensor([fold_of(i) for i in encoded.ids], device=modality.device)
        self._fold = folds.repeat_interleave(encoded.modality.shape[1])[self._used]
        self._kind = modality[self._used]


@dataclass(frozen=True)
class _Batch:
    """What one bank saw of one batch, ready to be summed: tokens `[n]`, their k selections `[n, k]`, bins by signal."""

    encoded: Encoded
    fold: Tensor
    kind: Tensor
    experts: Tensor
    weights: Tensor
    energies: Tensor  # [n, 2]: squared norms of what left and of what entered the bank
    states: Tensor | None  # [n, H], until the errors are measured
    errors: Tensor | None  # [n, k, B], with saliency [n, k, B + 1]
    bins: dict[str, Tensor]


class _Tables:
    """Sums by modality, and by signal where signals rank its tokens: of pairs `[fold·E(·bin), columns]` and of tokens
    `[fold(·bin), 2]`. Those of a modality that is not always there are made when its first token comes."""

    def __init__(self, experts: int, columns: int, signals: Sequence[str]):
        self.experts, self.columns, self.signals = experts, columns, tuple(signals)
        self.pairs: dict[str, dict[str, Tensor]] = {}
        self.tokens: dict[str, dict[str, Tensor]] = {}
        for name in USUAL:
            self._begin(name)

    def _begin(self, name: str) -> None:
        bins, ends = BINS if MODALITIES[name].ranked else 1, endings(name, self.signals)
        self.pairs[name] = {end: _zeros(FOLDS * self.experts * bins, self.columns) for end in ends}
        self.tokens[name] = {end: _zeros(FOLDS * bins, 2) for end in ends}

    def add(
        self, fold: Tensor, kind: Tensor, experts: Tensor, pairs: Tensor, tokens: Tensor, bins: dict[str, Tensor]
    ) -> None:
        """Add `pairs` `[n, k, columns]` and `tokens` `[n, 2]` of n tokens where they belong."""
        row = fold[:, None] * self.experts + experts
        for name, code in CODES.items():
            held = torch.nonzero(kind == code).ravel()
            if name not in self.pairs and len(held):
                self._begin(name)
            for end, sums in self.pairs.get(name, {}).items():
                at, place, wide = row[held], fold[held], tokens[held]
                if MODALITIES[name].ranked:
                    rank = bins[end.removeprefix("/")][held]
                    at, place = at * BINS + rank[:, None], place * BINS + rank
                _scatter(sums, at, pairs[held])
                _scatter(self.tokens[name][end], place, wide)

    def fill(self, arrays: dict[str, np.ndarray], columns: dict[str, int | slice], tokens: Sequence[str]) -> None:
        """Write the sums into the arrays of a `BankStatistics`: the pairs' columns, and the tokens' two, by key."""
        for name, tables in self.pairs.items():
            for end, sums in tables.items():
                bins = (BINS,) if MODALITIES[name].ranked else ()
                table = sums.numpy().reshape(FOLDS, self.experts, *bins, self.columns)
                for key, column in columns.items():
                    value = table[..., column]
                    arrays[f"{name}_{key}{end}"][:] = np.moveaxis(value, -1, 2) if isinstance(column, slice) else value
                for key, column in zip(tokens, self.tokens[name][end].numpy().T, strict=True):
                    arrays[f"{name}_{key}{end}"][:] = column.reshape(FOLDS, *bins)


class BankSums:
    """Running float64 sums of one bank on the CPU.

    One row per (fold, expert) for text and per (fold, expert, bin) for vision and audio; columns: selections, routing
    weight, and with sensitivity support, error at each width, gated error at each width, and saliency if asked.
    Batches wait until `POOL` tokens have come together, since adding many tokens takes hardly longer than adding few.

    The errors of what waits are measured together, too, so that an expert is rounded once for several batches; those of
    a bank whose weights lie on disk at once, while they are in memory.

    Memory: `FOLDS × E × (1 + 100 × signals) × (3 + 2B)` doubles (2 without sensitivity, one more with saliency), about
    `POOL` × k × (3 + B) numbers, and `POOL_BYTES` of states; it does not grow with the samples.
    """

    def __init__(
        self, bank: ExpertBank, rounded: RoundedBank, settings: CalibrationSettings, places: Places | None = None
    ):
        self.bank, self.rounded, self.settings = bank, rounded, settings
        self.places = places or Places(settings.signals)
        columns = 3 + 2 * len(settings.bits) + settings.saliency if settings.sensitivity else 2
        self.tables = _Tables(bank.experts, columns, settings.signals)  # of a token: one, energy of the bank's output
        self.entering = _zeros(FOLDS, 2)  # columns: tokens, energy of what enters the bank
        self.waiting: list[_Batch] = []
        self.at_once = is_offloaded(bank.module)
        self.fisher = FisherSums(bank, rounded, settings) if settings.gradients else None
        self.hessian = torch.zeros(FOLDS, bank.experts, 3, dtype=torch.float64)  # traces of gate, up, down
        self.hessian_samples = torch.zeros(FOLDS, dtype=torch.float64)

    def add(self, seen: Observation) -> None:
        """Count one batch. Padding is left out, though the model routes it too."""
        if self._is_full():
            self.flush()
        used, fold, kind, bins = self.places.of(seen)
        experts, weights = seen.experts[used], seen.weights[used]
        norms = [torch.linalg.vector_norm(part, dim=1, dtype=torch.float64) for part in (seen.output, seen.states)]
        energies = torch.stack(norms, dim=1)[used].square()
        states, errors = (seen.states[used] if self.settings.sensitivity else None), None
        if self.at_once and states is not None:
            states, (errors,) = None, self.rounded.errors([(states, experts, weights)])
        self.waiting.append(_Batch(seen.encoded, fold, kind, experts, weights, energies, states, errors, bins))

    def _is_full(self) -> bool:
        states = sum(batch.states.nbytes for batch in self.waiting if batch.states is not None)
        return states >= POOL_BYTES or sum(len(batch.fold) for batch in self.waiting) >= POOL

    def forget(self, samples: Collection[str]) -> None:
        """Take back the batch of these samples, which was the last to be added, as if it had not come."""
        self.waiting = [batch for batch in self.waiting if not set(batch.encoded.ids) & set(samples)]

    def flush(self) -> None:
        """Add what waits to the sums."""
        if not self.waiting:
            return
        batches, self.waiting = self.waiting, []
        fold, kind, experts, weights, energies = (
            torch.cat([getattr(batch, name) for batch in batches]).cpu()
            for name in ("fold", "kind", "experts", "weights", "energies")
        )
        errors = torch.cat(self._errors(batches)).cpu() if self.settings.sensitivity else None
        bins = {name: torch.cat([batch.bins[name] for batch in batches]).cpu() for name in self.settings.signals}
        tokens = torch.stack([torch.ones_like(energies), energies], dim=1)  # [n, (one, energy), (output, states)]
        self.tables.add(fold, kind, experts, self._values(weights, errors), tokens[..., 0], bins)
        _scatter(self.entering, fold, tokens[..., 1])

    def _errors(self, batches: list[_Batch]) -> list[Tensor]:
        if self.at_once:
            return [batch.errors for batch in batches]
        return self.rounded.errors([(batch.states, batch.experts, batch.weights) for batch in batches])

    def _values(self, weights: Tensor, errors: Tensor | None) -> Tensor:
        """Columns of every selection, float64 `[n, k, columns]`."""
        gate = weights.double()[..., None]
        if errors is None:
            return torch.cat([torch.ones_like(gate), gate], dim=2)
        errors, leaving, widths = errors.double(), self.bank.leaving(gate), len(self.settings.bits)
        moved, own = errors[..., :widths], errors[..., widths:]  # the latter empty without saliency
        columns = [torch.ones_like(gate), gate, torch.ones_like(gate), moved, moved * leaving.square()]
        return torch.cat([*columns, leaving * own.sqrt()], dim=2)

    def _columns(self) -> dict[str, int | slice]:
        """Which columns of `_values` are which sums."""
        columns: dict[str, int | slice] = {"selections": 0, "weight": 1}
        if self.settings.sensitivity:
            gated = 3 + (widths := len(self.settings.bits))
            columns |= {"support": 2, "error": slice(3, gated), "gated_error": slice(gated, gated + widths)}
            columns |= {"saliency": gated + widths} if self.settings.saliency else {}
        return columns

    def add_gradients(self, seen: Observation, squared: Tensor) -> None:
        """Count one batch of the gradient pass: `squared` `[2, T, H]`, g² at the output, plain and softened."""
        self.fisher.add(seen, squared)

    def add_hessian(self, fold: int, trace: Tensor, samples: float) -> None:
        """Count one sample's (or its share `samples` of one) Hessian traces `[E, 3]`."""
        self.hessian[fold] += trace.cpu()
        self.hessian_samples[fold] += samples

    def statistics(self) -> BankStatistics:
        """What was summed so far."""
        self.flush()
        bank, bits = self.bank, self.settings.bits
        shape = BankShape(bank.layer, bank.experts, bank.hidden, bank.intermediate, bank.top_k, bank.has_gate)
        signals, modalities = self.settings.signals, self.tables.pairs
        made = BankStatistics.empty(bank.name, shape, bits, signals, FOLDS, self.settings.extras, modalities)
        self.tables.fill(made.arrays, self._columns(), ("tokens", "energy"))
        made.arrays["input_tokens"][:], made.arrays["input_energy"][:] = self.entering.numpy().T
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
        self.widths = len(settings.bits)
        self.tables = _Tables(bank.experts, 1 + 2 * self.widths, settings.signals)

    def add(self, seen: Observation, squared: Tensor) -> None:
        """One batch; `squared` `[2, T, H]` is g² at the bank's output, plain and softened. Padding is left out."""
        used, fold, kind, bins = Places(self.signals).of(seen)
        squared, chosen = squared[:, used], seen.experts[used]
        damage = self.rounded.weighted_errors(seen.states[used], squared.sqrt(), chosen, seen.weights[used]).double()
        pairs = torch.cat([torch.ones_like(damage[0, ..., :1]), *damage], dim=2)
        energy = squared[0].double().sum(dim=1)
        self.tables.add(fold, kind, chosen, pairs, torch.stack([torch.ones_like(energy), energy], dim=1), bins)

    def fill(self, arrays: dict[str, np.ndarray]) -> None:
        """Write the sums into the arrays of a `BankStatistics`."""
        plain, soft = slice(1, 1 + self.widths), slice(1 + self.widths, None)
        columns: dict[str, int | slice] = {"fisher_support": 0, "fisher": plain, "soft_fisher": soft}
        self.tables.fill(arrays, columns, ("fisher_tokens", "gradient_energy"))


def _zeros(rows: int, columns: int) -> Tensor:
    return torch.zeros(rows, columns, dtype=torch.float64)


def _scatter(sums: Tensor, rows: Tensor, values: Tensor) -> None:
    """Add each row of values `[…, columns]` to its row `[…]` of the sums."""
    sums.index_add_(0, rows.ravel().cpu(), values.flatten(0, -2).cpu())
