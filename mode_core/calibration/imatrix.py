"""Sums what enters every matrix of the decoder while the model runs: an importance matrix that has seen pictures.

An expert's matrices see its own routed tokens alone. Any other linear layer sees all tokens; which vision tokens are
key there is told by the bank that is seen next, which ranks them in the same layer (after the last bank: by that one).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mode_core.errors import CalibrationError
from mode_core.modalities import CODES, KEY_TOKENS, MODALITIES
from mode_core.modalities import KINDS as ALL_KINDS
from mode_core.models import LoadedModel
from mode_core.models.offloading import in_memory
from mode_core.probing.observation import Observation
from mode_core.probing.redundancy import redundancy_bins
from mode_core.quantization.sizes import VISION_BRIDGES, VISION_PARTS
from mode_core.statistics import BINS
from mode_core.statistics.imatrix import KINDS, SHORT, InputEnergies


class EnergySums:
    """Running sums, see `statistics.imatrix`; `earlier` are those of an interrupted run that this one continues.

    Memory: the sums, and the inputs of one layer's matrices until its bank is seen. Work: an expert's first half once
    more for every routed token.
    """

    def __init__(self, loaded: LoadedModel, key_ratio: float, signal: str, earlier: InputEnergies | None = None):
        self.loaded, self.key_ratio, self.signal, self.earlier = loaded, key_ratio, signal, earlier
        if len({bank.layer for bank in loaded.banks.values()}) < len(loaded.banks):
            raise CalibrationError("An importance matrix has one bank a layer, and this model has two; leave it out.")
        self.kinds = len(KINDS) if loaded.audio_ids else SHORT  # a model that does not hear has no tokens of the others
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, Tensor] = {}
        for bank in loaded.banks.values():
            for side, width in (("up", bank.hidden), ("down", bank.intermediate)):
                self._begin(f"{bank.name}/{side}", bank.experts, width)
        self.linears = dict(decoder_linears(loaded))
        for name, linear in self.linears.items():
            self._begin(name, 1, linear.in_features)
        self._waiting: list[tuple[str, Tensor]] = []
        self._kind: Tensor | None = None

    def _begin(self, key: str, experts: int, width: int) -> None:
        self.sums[key] = torch.zeros(self.kinds, experts, width, dtype=torch.float64)
        self.counts[key] = torch.zeros(self.kinds, experts, dtype=torch.float64)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While the model runs: inputs of linear layers are kept until `observe` tells their tokens' kinds."""
        hooks = [linear.register_forward_pre_hook(self._entering(name)) for name, linear in self.linears.items()]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _entering(self, name: str) -> Any:
        def hook(_: nn.Module, arguments: tuple) -> None:
            self._waiting.append((name, arguments[0].detach()))

        return hook

    def begin_batch(self) -> None:
        """Forget what a pass that is not measured left behind."""
        self._waiting, self._kind = [], None

    def observe(self, seen: Observation) -> None:
        """Count one bank's tokens, and those of the layers before it."""
        self._kind = kinds(seen, self.signal, self.key_ratio)
        self.finish_batch()
        bank, key = seen.bank, seen.bank.name
        with in_memory(bank.module):
            for expert in seen.experts[self._kind >= 0].unique().tolist():
                rows, slots = torch.where((seen.experts == expert) & (self._kind >= 0)[:, None])
                states = bank.entering(seen.states[rows], seen.weights[rows, slots])
                inner = bank.inner(states, bank.fused_one("up", expert).to(states.dtype), expert)
                for side, entering in (("up", states), ("down", inner)):
                    self._add(f"{key}/{side}", expert, entering, self._kind[rows])

    def finish_batch(self) -> None:
        """Count what the layers since the last bank saw."""
        waiting, self._waiting = self._waiting, []
        for name, entering in waiting:
            flat = entering.reshape(-1, entering.shape[-1])
            if self._kind is not None and len(flat) == len(self._kind):  # a head that gives one position sees no more
                used = self._kind >= 0
                self._add(name, 0, flat[used], self._kind[used])

    def _add(self, key: str, expert: int, entering: Tensor, kind: Tensor) -> None:
        picked = nn.functional.one_hot(kind, self.kinds).float()
        self.sums[key][:, expert] += (picked.mT @ entering.float().square()).double().cpu()
        self.counts[key][:, expert] += picked.sum(dim=0).double().cpu()

    def result(self, samples: tuple[str, ...]) -> InputEnergies:
        """Everything so far, of these samples since `earlier`."""
        text = self.loaded.model.config.get_text_config().model_type
        kind = self.loaded.model.config.model_type
        settings = {
            "model": self.loaded.name, "revision": self.loaded.revision, "key_ratio": self.key_ratio,
            "signal": self.signal, "family": [kind, text],
        }  # fmt: skip
        held = self.kinds if any(value[SHORT:].any() for value in self.counts.values()) else SHORT
        made = InputEnergies(
            {key: value[:held].numpy().copy() for key, value in self.sums.items()},
            {key: value[:held].numpy().copy() for key, value in self.counts.items()},
            settings,
            samples,
        )
        return made if self.earlier is None else self.earlier + made


def kinds(seen: Observation, signal: str, key_ratio: float) -> Tensor:
    """Place of every position's kind in `KINDS`, −1 for padding: int64 `[T]`."""
    modality = seen.encoded.modality
    key = redundancy_bins(seen.importance[signal], modality) < max(1, round(key_ratio * BINS))
    found = torch.full_like(modality, -1, dtype=torch.int64)
    for place, kind in enumerate(KINDS):
        owner, part = ALL_KINDS[kind].modality, ALL_KINDS[kind].part
        own = key == (part == KEY_TOKENS) if MODALITIES[owner].ranked else torch.ones_like(key)
        found[(modality == CODES[owner]) & own] = place
    return found.flatten()


def decoder_linears(loaded: LoadedModel) -> Iterator[tuple[str, nn.Linear]]:
    """Linear layers of the language model outside its routed experts, by module name."""
    inside = {id(part) for bank in loaded.banks.values() for part in bank.module.modules()}
    for name, module in loaded.model.named_modules():
        seeing = {*name.lower().split(".")} & {*VISION_PARTS, *VISION_BRIDGES}
        if type(module) is nn.Linear and id(module) not in inside and not seeing:
            yield name, module
