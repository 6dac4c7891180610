"""How far the model's own answer moves when one expert alone is rounded for the tokens of one modality (paper §5).

    δ_M(e, b) = mean over samples of KL(p ‖ p with expert e at b bits for the tokens of modality M only)

M is text, or the key vision tokens at one key ratio and redundancy signal; tokens of the other modality go through the
expert as it was. p is the distribution of the next token at the last position of the prompt, or, with
`positions="answers"`, at every position of the reference answer (then the mean over these). The mean is over samples
that have tokens of M at all.

Only the bank's output can differ, and only in the rows of tokens that chose the expert, so one pass of the original
tells what every rounded expert would add there: Δ = w·(E_b(x) − E(x)). Each further pass adds one such Δ behind one
bank and reads the logits. Where no token of M chose the expert the answer cannot move, and no pass is made: exact, and
on real batches the larger part of the saving.

What lies before the bank's layer is the same in all its passes and is not computed again, where the family allows it
(see `replay`); this is checked for every layer.

Cost: at most batches × (2 + layers + 2·B·Σ over banks of E) forward passes, or their later parts; `logit_kl_cost` says
how many and how long before. Memory: (1 + B) times the experts' weights, and of one batch what entered every bank and
left every layer: layers × tokens × (3·hidden + 2k) and the vision tower's output; nothing grows with the samples.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mode_core.calibration.errors import CalibrationError
from mode_core.calibration.probe import Observation, Probe
from mode_core.calibration.redundancy import redundancy_bins
from mode_core.calibration.replay import Replay
from mode_core.calibration.settings import CalibrationSettings
from mode_core.jobs import Cancel, ProgressHook, Reporter
from mode_core.models import TEXT, VISION, Encoded, ExpertBank, LoadedModel, Reached
from mode_core.quantization.grids import fake_quantize
from mode_core.quantization.guard import exclusive, is_quantized
from mode_core.quantization.widths import DROPPED
from mode_core.samples import Sample
from mode_core.statistics import BINS, FOLDS, ExpertStatistics, fold_of

POSITIONS = ("last", "answers")
KINDS = ("text", "key")
PASSES_PER_BATCH = 2  # what enters the banks, and the original's distribution; beside one check per layer
SAME = 1e-6  # KL in nats that two equal passes may differ by


@dataclass(frozen=True)
class LogitKLSettings:
    """What is measured: which vision tokens are key, at which positions KL is taken, and the batch.

    Raises:
        ValueError: a setting out of range, with what is allowed.
    """

    key_ratio: float = 0.20
    signal: str = "text_attention"
    positions: str = "last"
    batch_size: int = 8

    def __post_init__(self) -> None:
        if self.positions not in POSITIONS:
            raise ValueError(f"positions must be one of {', '.join(POSITIONS)}; got {self.positions!r}.")
        if not 0 < self.key_ratio <= 1 or round(BINS * self.key_ratio) < 1:
            raise ValueError(f"key_ratio must lie in (0, 1], in whole per cents; got {self.key_ratio!r}.")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {self.batch_size}.")

    def measured_with(self) -> dict[str, Any]:
        """What must agree for two measurements to be added."""
        return {"key_ratio": float(self.key_ratio), "signal": self.signal, "positions": self.positions}


@dataclass(frozen=True)
class LogitKLCost:
    """What measuring would take at most: `passes` forward passes, and `seconds` if each took as long as a whole one.

    `seconds_per_pass` was timed on the first batch, so `seconds` is an estimate. It is less where passes begin late.
    """

    passes: int
    seconds: float
    seconds_per_pass: float

    def __str__(self) -> str:
        scales = ((7200, 3600, "hours"), (120, 60, "minutes"), (0, 1, "seconds"))
        unit, called = next((unit, called) for least, unit, called in scales if self.seconds >= least)
        each = f"{self.seconds_per_pass:.3f} s each, estimated"
        return f"at most {self.passes:,} forward passes, at most about {self.seconds / unit:.1f} {called} ({each})"


@dataclass
class LogitKL:
    """Sums of one measurement. `sums[bank]` holds, by name, float64 arrays in folds of the samples:

    `text_logit_kl`, `key_logit_kl` `[fold, E, B]` Σ over samples of KL in nats; `…_support` `[fold, E]` tokens of the
    kind that chose the expert; `…_samples` `[fold]` samples that have such tokens.
    """

    bits: tuple[int, ...]
    settings: LogitKLSettings
    sums: dict[str, dict[str, np.ndarray]]
    samples: list[str] = field(default_factory=list)
    passes: int = 0

    @classmethod
    def empty(cls, loaded: LoadedModel, bits: tuple[int, ...], settings: LogitKLSettings) -> LogitKL:
        """Nothing measured yet."""
        sums = {bank.name: {} for bank in loaded.banks.values()}
        for bank in loaded.banks.values():
            for kind in KINDS:
                sums[bank.name] |= {
                    f"{kind}_logit_kl": np.zeros([FOLDS, bank.experts, len(bits)]),
                    f"{kind}_logit_kl_support": np.zeros([FOLDS, bank.experts]),
                    f"{kind}_logit_kl_samples": np.zeros(FOLDS),
                }
        return cls(bits, settings, sums)

    def damage(self, bank: str, kind: str) -> np.ndarray:
        """δ of one kind of token: mean KL in nats, `[E, B]`; 0 where no sample has tokens of that kind."""
        sums = self.sums[bank]
        count = sums[f"{kind}_logit_kl_samples"].sum()
        return sums[f"{kind}_logit_kl"].sum(axis=0) / max(count, 1)

    def added_to(self, statistics: ExpertStatistics) -> ExpertStatistics:
        """The same statistics with this measurement in them, for `cost_table(…, metric="logit_kl")`.

        Raises:
            CalibrationError: statistics of another model or of other widths.
        """
        if list(statistics.banks) != list(self.sums) or tuple(statistics.bits) != tuple(self.bits):
            raise CalibrationError(
                f"The statistics are of other banks or widths {tuple(statistics.bits)}; KL was measured at {self.bits}."
            )
        banks = {name: replace(bank, arrays=bank.arrays | self.sums[name]) for name, bank in statistics.banks.items()}
        settings = dict(statistics.settings) | {"logit_kl": self.settings.measured_with()}
        return replace(statistics, banks=banks, settings=settings)


def without_kl(statistics: ExpertStatistics) -> tuple[ExpertStatistics, LogitKL | None]:
    """Statistics as calibration alone made them, and the KL that was added to them (without its samples' ids)."""
    if "logit_kl" not in statistics.extras:
        return statistics, None
    names = [f"{kind}_logit_kl{end}" for kind in KINDS for end in ("", "_support", "_samples")]
    sums = {bank.name: {name: bank.arrays[name].copy() for name in names} for bank in statistics}
    banks = {
        bank.name: replace(bank, arrays={key: array for key, array in bank.arrays.items() if key not in names})
        for bank in statistics
    }
    settings = dict(statistics.settings)
    found = LogitKL(tuple(statistics.bits), LogitKLSettings(**settings.pop("logit_kl")), sums)
    return replace(statistics, banks=banks, settings=settings), found


def logit_kl_cost(
    loaded: LoadedModel,
    samples: Sequence[Sample],
    bits: Sequence[int] = (1, 2, 3, 4),
    settings: LogitKLSettings | None = None,
) -> LogitKLCost:
    """What `measure_logit_kl` would cost; runs the first batch twice, the second time by the clock."""
    settings = settings or LogitKLSettings()
    batches = -(-len(samples) // settings.batch_size)
    variations = len(KINDS) * len(bits) * sum(bank.experts for bank in loaded.banks.values())
    with exclusive(loaded):
        encoded = _encode(loaded, samples[: settings.batch_size], settings)
        _read(loaded, encoded)
        began = time.perf_counter()
        _read(loaded, encoded)
        each = time.perf_counter() - began
    layers = len({bank.layer for bank in loaded.banks.values()})
    passes = batches * (PASSES_PER_BATCH + 2 * layers + variations)
    return LogitKLCost(passes, passes * each, each)


def measure_logit_kl(
    loaded: LoadedModel,
    samples: Sequence[Sample],
    calibration: CalibrationSettings | None = None,
    settings: LogitKLSettings | None = None,
    progress: ProgressHook | None = None,
    cancel: Cancel | None = None,
    kept: LogitKL | None = None,
) -> LogitKL:
    """Measure δ of every expert, width and modality; see the head of this file. Say the cost first (`logit_kl_cost`).

    `calibration` gives widths and grid. `kept` is added to batch by batch where given, so that a caller still has what
    was measured when the work is stopped; samples that it holds already are not measured again.

    Raises:
        CalibrationError: no samples, or a family whose bank's output cannot be changed on the way.
        SampleError: a sample that the processor refuses, or without an answer where `positions` asks for one.
        Cancelled: stopped on request, after the last whole batch.
    """
    calibration, settings = calibration or CalibrationSettings(), settings or LogitKLSettings()
    found = kept if kept is not None else LogitKL.empty(loaded, calibration.bits, settings)
    left = [sample for sample in samples if sample.id not in set(found.samples)]
    if not samples:
        raise CalibrationError("There are no samples to measure KL with; give at least one.")
    with exclusive(loaded):
        if is_quantized(loaded):
            raise CalibrationError("The model has quantized weights in it now; restore it before calibrating.")
        if any(bank.device.type == "meta" for bank in loaded.banks.values()):
            raise CalibrationError(
                f"Parts of {loaded.name} lie on disk, where the KL of every expert would take days; load it whole."
            )
        rounded = {bank.name: _Rounded.of(bank, calibration) for bank in loaded.banks.values()}
        batches = [left[n : n + settings.batch_size] for n in range(0, len(left), settings.batch_size)]
        reporter = Reporter(progress, len(batches) * sum(bank.experts for bank in loaded.banks.values()), cancel)
        for number, batch in enumerate(batches, 1):
            _add(found, _Batch(loaded, batch, settings, rounded), reporter, f"KL, batch {number} of {len(batches)}")
    return found


def _add(found: LogitKL, batch: _Batch, reporter: Reporter, what: str) -> None:
    """Measure one batch whole, then add it."""
    fresh = {name: {key: np.zeros_like(array) for key, array in sums.items()} for name, sums in found.sums.items()}
    for seen in batch.seen.values():
        sums = fresh[seen.bank.name]
        for kind, mask in batch.masks(seen).items():
            has = mask.any(dim=1).cpu().numpy()
            np.add.at(sums[f"{kind}_logit_kl_samples"], batch.folds[has], 1.0)
        for expert in range(seen.bank.experts):
            for kind, kl, support in batch.variations(seen, expert):
                np.add.at(sums[f"{kind}_logit_kl_support"][:, expert], batch.folds, support)
                np.add.at(sums[f"{kind}_logit_kl"][:, expert], batch.folds, kl)
            reporter.step(what)
    for name, sums in fresh.items():
        for key, array in sums.items():
            found.sums[name][key] += array
    found.samples += [sample.id for sample in batch.samples]
    found.passes += batch.passes


@dataclass(frozen=True)
class _Rounded:
    """One bank's matrices at every width: `up` `[B, E, rows, H]`, `down` `[B, E, H, I]`; None at 0 bits."""

    bank: ExpertBank
    up: list[Tensor | None]
    down: list[Tensor | None]

    @classmethod
    def of(cls, bank: ExpertBank, settings: CalibrationSettings) -> _Rounded:
        def at(side: str, bits: int) -> Tensor | None:
            return None if bits == DROPPED else fake_quantize(bank.fused(side), bits, *grid)

        grid = settings.group_size, settings.symmetric
        return cls(bank, *([at(side, bits) for bits in settings.bits] for side in ("up", "down")))

    def differences(self, states: Tensor, expert: int) -> Tensor:
        """E_b(x) − E(x) at every width: `[n, H]` → `[B, n, H]` float32."""
        x, own = states.float(), (self.bank.fused_one(side, expert).float() for side in ("up", "down"))
        output = self.bank.expert_forward(x, *own, expert)
        made = []
        for up, down in zip(self.up, self.down, strict=True):
            if up is None:
                made.append(-output)
            else:
                made.append(self.bank.expert_forward(x, up[expert].float(), down[expert].float(), expert) - output)
        return torch.stack(made)


class _Batch:
    """One batch: what entered its banks, the original's distribution, and what every change does to it."""

    def __init__(
        self,
        loaded: LoadedModel,
        samples: Sequence[Sample],
        settings: LogitKLSettings,
        rounded: dict[str, _Rounded],
    ):
        self.loaded, self.samples, self.settings, self.rounded = loaded, samples, settings, rounded
        self.encoded = _encode(loaded, samples, settings)
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
        return {"text": modality == TEXT, "key": key}

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


def _encode(loaded: LoadedModel, samples: Sequence[Sample], settings: LogitKLSettings) -> Encoded:
    return loaded.encode(samples, answers=settings.positions == "answers", padding_side="left")


def _positions(encoded: Encoded, settings: LogitKLSettings) -> Tensor:
    """Which of the last positions are read: bool `[batch, n]`, n as many as the longest needs; at least one each."""
    if settings.positions == "last":
        return torch.ones(len(encoded.ids), 1, dtype=torch.bool, device=encoded.modality.device)
    predicting = encoded.answer_mask.roll(-1, dims=1)  # the logits of a position are about the next token
    predicting[:, -1] = False
    first = int(predicting.any(dim=0).int().argmax())
    return predicting[:, first:]


def _read(loaded: LoadedModel, encoded: Encoded, keep: int = 1) -> Tensor:
    """Logits of the last `keep` positions, `[batch, keep, V]`."""
    takes = inspect.signature(loaded.model.forward).parameters
    less = {"logits_to_keep": keep} if "logits_to_keep" in takes else {}
    with torch.inference_mode():
        return loaded.model(**encoded.inputs, use_cache=False, **less).logits[:, -keep:]


def _log_probabilities(loaded: LoadedModel, encoded: Encoded, read: Tensor) -> Tensor:
    """Log-probabilities of the positions that are read, float64 `[batch, n, V]`."""
    return _read(loaded, encoded, read.shape[1]).double().log_softmax(dim=-1)
