"""What enters the experts, summed as Hessians: one or more passes of the original model over the samples.

Per expert and matrix H = Σ w·gᵃ·x·xᵀ over the tokens that the router gave this expert, g their routing weight for it
and a the `affinity` (0: all alike). Two weightings w (N: tokens of the bank):

| weighting | text tokens | key tokens | redundant vision tokens |
|---|---|---|---|
| `tokens` | 1 | 1 | 1 |
| `modality` (paper §4 and §5) | 1/N_text | α/N_key | 0 |

Padding never counts. With `modality` an expert's Hessian belongs to the method's own cost f_text·δ_text + α·f_key·δ_key
(both modalities count alike though vision tokens are many, and redundant ones do not count). Key audio tokens are in
one sum with the key vision tokens.

VEQ-MA (arXiv 2602.01037) builds its Hessian from token–expert affinity and modality; its code was never released. Ours
is an adaptation: `modality` with an affinity of 1, where its authors weigh modalities by their gradients.

All Hessians come from the original weights, so they do not depend on what fits into memory: as many experts are summed
in one pass as `memory_bytes` allows, then they are quantized, and the next pass begins. A bank of the 30B shape (128
experts, 2048 × 768) has 2.4 GB of them; a pass stops after the last layer that it needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mode_core.jobs import Reporter
from mode_core.quantization.settings import GptqSettings

if TYPE_CHECKING:
    from mode_core.models import Encoded, ExpertBank, LoadedModel
    from mode_core.probing.observation import Observation
    from mode_core.samples import Sample


class ExpertHessians:
    """Running sums of one bank for some of its experts, one per kind of token (all; or text and key).

    `up` `[n, kinds, H, H]` of what enters gate and up, `down` `[n, kinds, I, I]` of what enters down, float32;
    `routed` int64 `[n]` tokens that counted for each of `experts`.
    """

    def __init__(self, bank: ExpertBank, experts: Sequence[int], settings: GptqSettings, device: torch.device):
        self.bank, self.experts, self.settings = bank, list(experts), settings
        self.kinds = len(_kind_weights(settings))
        shape = (len(self.experts), self.kinds)
        self.up = torch.zeros(*shape, bank.hidden, bank.hidden, device=device)
        self.down = torch.zeros(*shape, bank.intermediate, bank.intermediate, device=device)
        self.routed = torch.zeros(len(self.experts), dtype=torch.int64)
        self.totals = torch.zeros(self.kinds, dtype=torch.float64)

    def add(self, seen: Observation) -> None:
        """Sum one batch."""
        kind = _kinds(seen, self.settings)
        self.totals += torch.bincount(kind[kind >= 0], minlength=self.kinds).cpu()
        for place, expert in enumerate(self.experts):
            rows, slots = torch.where((seen.experts == expert) & (kind >= 0)[:, None])
            if not len(rows):
                continue
            kinds = kind[rows]
            gates = seen.weights[rows, slots]
            states = self.bank.entering(seen.states[rows], gates).float()
            inner = self.bank.inner(states, self.bank.fused_one("up", expert).float(), expert)
            self.routed[place] += len(states)
            for number in range(self.kinds):
                chosen = kinds == number
                amount = gates[chosen].float().clamp_min(0).pow(self.settings.affinity / 2)[:, None]
                for sums, entering in ((self.up, states), (self.down, inner)):
                    values = entering[chosen] * amount if self.settings.affinity else entering[chosen]
                    sums[place, number].addmm_(values.mT, values)

    def weighted(self, side: str, places: Tensor) -> Tensor:
        """The Hessians of some of the experts (their places among `experts`): `[m, in, in]`, side `up` or `down`."""
        weights = torch.tensor(_kind_weights(self.settings)) / self.totals.clamp_min(1)
        sums = (self.up if side == "up" else self.down)[places]
        return torch.einsum("mkij,k->mij", sums, weights.to(sums))


class LinearHessian:
    """The running sum of what enters one linear layer outside the experts: all tokens without padding count alike."""

    def __init__(self, linear: nn.Linear):
        self.sum = torch.zeros(linear.in_features, linear.in_features, device=linear.weight.device)
        self.tokens = 0

    def add(self, entering: Tensor, used: Tensor) -> None:
        """Sum one batch: `entering` `[..., in]`, `used` boolean `[tokens]` in the same order."""
        values = entering.reshape(-1, entering.shape[-1])
        if len(values) == len(used):
            values = values[used.to(values.device)]
        values = values.float()
        self.sum.addmm_(values.mT, values)
        self.tokens += len(values)


@dataclass
class HessianPass:
    """What one pass of the model sums up."""

    experts: dict[str, list[int]] = field(default_factory=dict)  # bank -> experts
    linears: dict[str, nn.Linear] = field(default_factory=dict)  # by module name
    banks: dict[str, ExpertHessians] = field(default_factory=dict)
    sums: dict[str, LinearHessian] = field(default_factory=dict)


def plan_passes(
    banks: dict[str, ExpertBank],
    experts: dict[str, Sequence[int]],
    linears: dict[str, nn.Linear],
    settings: GptqSettings,
) -> list[HessianPass]:
    """Cut the work into passes whose Hessians fit into `settings.memory_bytes` (at least one expert each)."""
    kinds = len(_kind_weights(settings))
    passes, room = [], 0
    for name, chosen in experts.items():
        size = 4 * kinds * (banks[name].hidden ** 2 + banks[name].intermediate ** 2)
        for expert in chosen:
            if not passes or room < size:
                passes.append(HessianPass())
                room = settings.memory_bytes
            passes[-1].experts.setdefault(name, []).append(int(expert))
            room -= size
    for name, linear in linears.items():
        size = 4 * linear.in_features**2
        if not passes or room < size:
            passes.append(HessianPass())
            room = settings.memory_bytes
        passes[-1].linears[name] = linear
        room -= size
    return passes


class _Enough(Exception):
    """All that the pass needs of this batch was seen: the layers after it need not run."""


def run_pass(
    loaded: LoadedModel, wanted: HessianPass, samples: Sequence[Sample], settings: GptqSettings, reporter: Reporter
) -> HessianPass:
    """Sum the Hessians of one pass over all samples into `wanted`, and return it.

    Memory: the Hessians, one batch, and the inputs of one expert.

    Raises:
        SampleError: a sample that the processor refuses. Cancelled: a stop was asked for.
    """
    from mode_core.probing.probe import Probe

    for name, experts in wanted.experts.items():
        bank = loaded.banks[name]
        wanted.banks[name] = ExpertHessians(bank, experts, settings, bank.device)
    wanted.sums = {name: LinearHessian(linear) for name, linear in wanted.linears.items()}
    work = _Watch(wanted)
    hooks = [linear.register_forward_pre_hook(work.entering(name)) for name, linear in wanted.linears.items()]
    signals = (settings.signal,) if settings.weighting == "modality" and wanted.experts else ()
    try:
        with Probe(loaded, signals, work.observe) as probe:
            for batch, answered in _batches(samples, settings):
                work.begin(encoded := loaded.encode(batch, answers=answered))
                with suppress(_Enough):
                    probe.run(encoded)
                reporter.step("what enters the experts", len(batch))
    finally:
        for hook in hooks:
            hook.remove()
    return wanted


class _Watch:
    """Hands what the model shows to the sums, and stops the batch when all of them have it."""

    def __init__(self, wanted: HessianPass):
        self.wanted = wanted
        self.left: set[str] = set()
        self.used: Tensor | None = None

    def begin(self, encoded: Encoded) -> None:
        from mode_core.models import PADDING

        self.left = {*self.wanted.experts, *self.wanted.linears}
        self.used = (encoded.modality != PADDING).flatten()

    def observe(self, seen: Observation) -> None:
        if (sums := self.wanted.banks.get(seen.bank.name)) is not None:
            sums.add(seen)
        self._done(seen.bank.name)

    def entering(self, name: str) -> Any:
        def hook(_: nn.Module, args: tuple) -> None:
            self.wanted.sums[name].add(args[0], self.used)
            self.left.discard(name)

        return hook

    def _done(self, name: str) -> None:
        self.left.discard(name)
        if not self.left:
            raise _Enough


def _batches(samples: Sequence[Sample], settings: GptqSettings) -> Iterator[tuple[list[Sample], bool]]:
    """Batches of samples that are all read with their answers, or all without."""
    answered = [sample for sample in samples if settings.answers and sample.answer is not None]
    silent = [sample for sample in samples if not settings.answers or sample.answer is None]
    for chosen, with_answers in ((answered, True), (silent, False)):
        for first in range(0, len(chosen), settings.batch_size):
            yield chosen[first : first + settings.batch_size], with_answers


def _kind_weights(settings: GptqSettings) -> tuple[float, ...]:
    """Weight of every kind of token that has a sum of its own."""
    return (1.0,) if settings.weighting == "tokens" else (1.0, settings.vision_weight)


def _kinds(seen: Observation, settings: GptqSettings) -> Tensor:
    """Which sum every row of the bank counts for, int64 `[T]`; −1: none."""
    from mode_core.models import PADDING, TEXT
    from mode_core.probing.redundancy import redundancy_bins
    from mode_core.statistics import BINS

    modality = seen.encoded.modality
    if settings.weighting == "tokens":
        return torch.where(modality.flatten() != PADDING, 0, -1)
    bins = redundancy_bins(seen.importance[settings.signal], modality)
    key = (bins >= 0) & (bins < max(1, round(settings.key_ratio * BINS)))
    return torch.where(modality == TEXT, 0, torch.where(key, 1, -1)).flatten()
