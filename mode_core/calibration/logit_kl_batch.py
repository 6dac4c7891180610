"""One batch of samples in which every expert is rounded by itself: what moves the answer, and by how much.

The measurement as a whole, its formula and its cost are told in `mode_core.calibration.logit_kl`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mode_core.calibration.sensitivity import RoundedBank
from mode_core.calibration.settings import LogitKLSettings
from mode_core.errors import CalibrationError
from mode_core.modalities import KEY_TOKENS, TEXT_TOKENS
from mode_core.models import TEXT, VISION, Encoded, ExpertBank, LoadedModel, Reached
from mode_core.models.last_logits import last_logits
from mode_core.probing.probe import Observation, Probe
from mode_core.probing.redundancy import redundancy_bins
from mode_core.probing.replay import Replay
from mode_core.samples import Sample
from mode_core.statistics import BINS, fold_of

SAME = 1e-6  # KL in nats that two equal passes may differ by


class Batch:
    """One batch: what entered its banks, the original's distribution, and what every change does to it."""

    def __init__(
        self,
        loaded: LoadedModel,
        samples: Sequence[Sample],
        settings: LogitKLSettings,
        rounded: dict[str, RoundedBank],
    ):
        self.loaded, self.samples, self.settings, self.rounded = loaded, samples, settings, rounded
        self.encoded = encode(loaded, samples, settings)
        self.folds = np.array([fold_of(sample.id) for sample in samples])
        self.seen: dict[str, Observation] = {}
        with Probe(loaded, (settings.signal,), self._keep) as probe:
            probe.run(self.encoded)
        self.read = _positions(self.encoded, settings)
        self.replay = Replay(loaded.model, probe.layers)
        with self.replay.recording():
            self.original = _log_probabilities(loaded, self.encoded, self.read)
        self.passes = 2
        self.begins = {layer: layer for layer in {seen.bank.layer for seen in self.seen.values()}}
        self._check_nothing_moves()

    def _keep(self, seen: Observation) -> None:
        self.seen[seen.bank.name] = seen

    def _check_nothing_moves(self) -> None:
        """Adding nothing behind a bank must change nothing, wherever the pass begins; this also finds banks that
        cannot be reached. Where a pass cannot begin in the middle it begins at the front."""
        by_layer = {seen.bank.layer: seen for seen in self.seen.values()}
        for layer, seen in by_layer.items():
            if not self.replay.works(layer, lambda seen=seen: self._moved_by_nothing(seen) <= SAME):
                self.begins[layer] = None
        whole = next((by_layer[layer] for layer, begin in self.begins.items() if begin is None), None)
        if whole is not None and (moved := self._moved_by_nothing(whole)) > SAME:
            raise CalibrationError(
                f"Two equal passes of {self.loaded.name} differ by {moved:.1e} nats; KL cannot be measured."
            )

    def _moved_by_nothing(self, seen: Observation) -> float:
        none = torch.zeros(1, seen.output.shape[1], dtype=seen.output.dtype, device=seen.output.device)
        first = torch.zeros(1, dtype=torch.long, device=none.device) if seen.rows is None else seen.rows[:1]
        return float(self._changed_kl(seen, first, none).max())

    def masks(self, seen: Observation) -> dict[str, Tensor]:
        """Which positions are of each kind, of those that the bank sees: bool `[batch, L]`."""
        modality = seen.encoded.modality
        bins = redundancy_bins(seen.importance[self.settings.signal], modality)
        key = (modality == VISION) & (bins < round(BINS * self.settings.key_ratio))
        return {TEXT_TOKENS: modality == TEXT, KEY_TOKENS: key}

    def variations(self, seen: Observation, expert: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """One expert rounded for each kind of token that chose it: (kind, KL `[batch, B]`, tokens `[batch]`)."""
        chosen = seen.experts == expert  # [T, k]
        for kind, mask in self.masks(seen).items():
            tokens = torch.nonzero(chosen.any(dim=1) & mask.ravel()).ravel()
            if len(tokens):
                weight = (seen.weights * chosen)[tokens].sum(dim=1, keepdim=True)
                kl = [self._kl(seen, tokens, change) for change in self._changes(seen, expert, tokens, weight)]
                rows = tokens // mask.shape[1]
                touched = torch.bincount(rows, minlength=len(self.samples)).cpu().numpy()
                yield kind, np.stack(kl, axis=1), touched

    def _changes(self, seen: Observation, expert: int, tokens: Tensor, weight: Tensor) -> Tensor:
        """What rounding adds to the bank's output for these tokens: w·(E_b(x) − E(x)) at every width, `[B, n, H]`."""
        entering = seen.bank.entering(seen.states[tokens], weight[:, 0])
        return self.rounded[seen.bank.name].differences(entering, expert) * seen.bank.leaving(weight).float()

    def _kl(self, seen: Observation, tokens: Tensor, change: Tensor) -> np.ndarray:
        """KL of each sample with `change` `[n, H]` added to the bank's output at these positions: `[batch]`."""
        begin = self.begins[seen.bank.layer]
        with nullcontext() if begin is None else self.replay.from_layer(begin):
            return self._changed_kl(seen, tokens, change)

    def _changed_kl(self, seen: Observation, tokens: Tensor, change: Tensor) -> np.ndarray:
        self.passes += 1
        rows = tokens if seen.rows is None else torch.searchsorted(seen.rows, tokens)
        with _changed(self.loaded, seen.bank, rows, change):
            moved = _log_probabilities(self.loaded, self.encoded, self.read)
        each = (self.original.exp() * (self.original - moved)).sum(dim=2).clamp_min(0)  # [batch, positions]
        shares = self.read.double() / self.read.sum(dim=1, keepdim=True)
        return (each * shares).sum(dim=1).cpu().numpy()


@contextmanager
def _changed(loaded: LoadedModel, bank: ExpertBank, rows: Tensor, change: Tensor) -> Iterator[None]:
    """Add `change` to rows of the bank's output inside `with`; nothing else of the model differs.

    Where a block calls its experts one by one, or all at once, what it gives is changed: its own output is the sum of
    the experts' and of what does not depend on them.

    Raises:
        CalibrationError: the bank or its block is not called exactly once per pass.
    """
    called = []

    def add(_module: Any, _inputs: Any, output: Any) -> Any:
        called.append(True)
        parts = [output] if isinstance(output, Tensor) else list(output)
        place = next(n for n, part in enumerate(parts) if isinstance(part, Tensor))
        flat = parts[place].reshape(-1, parts[place].shape[-1])
        parts[place] = flat.index_add(0, rows, change.to(flat.dtype)).reshape(parts[place].shape)
        return parts[0] if isinstance(output, Tensor) else type(output)(parts)

    by_itself = bank.reached in (Reached.INTERFACE, Reached.CALL)
    name = bank.name if by_itself else bank.name.rpartition(".")[0]
    hook = loaded.model.get_submodule(name).register_forward_hook(add)
    try:
        yield
    finally:
        hook.remove()
    if len(called) != 1:
        raise CalibrationError(f"{name} is called {len(called)} times in a pass; KL cannot be measured in this family.")


def encode(loaded: LoadedModel, samples: Sequence[Sample], settings: LogitKLSettings) -> Encoded:
    return loaded.encode(samples, answers=settings.positions == "answers", padding_side="left")


def _positions(encoded: Encoded, settings: LogitKLSettings) -> Tensor:
    """Which of the last positions are read: bool `[batch, n]`, n as many as the longest needs; at least one each."""
    if settings.positions == "last":
        return torch.ones(len(encoded.ids), 1, dtype=torch.bool, device=encoded.modality.device)
    predicting = encoded.answer_mask.roll(-1, dims=1)  # the logits of a position are about the next token
    predicting[:, -1] = False
    first = int(predicting.any(dim=0).int().argmax())
    return predicting[:, first:]


def read_logits(loaded: LoadedModel, encoded: Encoded, keep: int = 1) -> Tensor:
    """Logits of the last `keep` positions, `[batch, keep, V]`."""
    with torch.inference_mode():
        return last_logits(loaded.model, encoded.inputs, keep)


def _log_probabilities(loaded: LoadedModel, encoded: Encoded, read: Tensor) -> Tensor:
    """Log-probabilities of the positions that are read, float64 `[batch, n, V]`."""
    return read_logits(loaded, encoded, read.shape[1]).double().log_softmax(dim=-1)
