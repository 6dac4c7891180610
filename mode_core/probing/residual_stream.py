"""What reads a model's residual stream and what writes it, found by watching the model, never by a family's name.

**Readers** are modules with a matrix `[out, H]` whose input rows are rows that a norm of the stream gave, or rows of
the stream itself. **Writers** are linear layers, embeddings, expert banks and bare parameters of width H: a constant
vector added to what one gives must arrive at the stream as that vector, times one number per token, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mode_core.models import ExpertBank, LoadedModel, Reached
from mode_core.models.bank_search import layer_prefix
from mode_core.models.errors import ModelError

COMPARED = 4  # rows by which an input is known
LAYER = re.compile(r"(?<=\.)\d+(?=\.)")  # the number of a layer in a module's name
EXACT = 1e-3  # largest part of what arrives at the stream that is not the vector added, of its size


@dataclass(frozen=True)
class Stream:
    """The residual stream of a model, of width `hidden`.

    `readers`: module → norm before it ("" where it reads the stream as it is); `norms`: norm → gain `[H]` and the value
    of its weights at which it has none (0 where a family adds 1); `banks_reading` and `banks_writing`: expert banks;
    `writers`: linear layers and embeddings; `parameters`: bare parameters that are written.
    """

    hidden: int
    readers: dict[str, str]
    banks_reading: dict[str, str]
    norms: dict[str, tuple[Tensor, float]]
    writers: tuple[str, ...]
    banks_writing: tuple[str, ...]
    parameters: tuple[str, ...]


@dataclass
class _Seen:
    """One pass: what norms of the stream were given and gave, in the order of the calls, and what else was given."""

    points: list[tuple[str, Tensor, Tensor]] = field(default_factory=list)  # norm, stream [N, H], output [N, H]
    inputs: dict[str, Tensor] = field(default_factory=dict)
    called: set[str] = field(default_factory=set)


def residual_stream(loaded: LoadedModel, inputs: Any) -> Stream:
    """Find readers and writers; `inputs` are encoded samples that use every way into the stream (pictures and text).

    Raises:
        ModelError: a norm that is no plain RMSNorm or has no linear layer behind it; a layer of the stream's width that
            these samples do not reach, so that nobody knows what it does.
    """
    return _Search(loaded, inputs).stream()


class _Search:
    def __init__(self, loaded: LoadedModel, inputs: Any):
        self.model, self.inputs = loaded.model, inputs
        self.modules = dict(self.model.named_modules())
        self.hidden = self.model.get_input_embeddings().weight.shape[-1]
        self.banks = {name: bank for name, bank in loaded.banks.items() if bank.hidden == self.hidden}
        self.layers = {layer_prefix(name)[0] for name in loaded.banks}
        decoders = {name.rpartition(".")[0] for name in self.layers}
        self.inside = tuple(f"{name}." if name else "" for name in decoders)
        vectors = [name for name, module in self.modules.items() if self._is_norm(module)]
        self.norms = [name for name in vectors if self._on_stream(name)]
        self.other_norms = [name for name in vectors if name not in self.norms]

    def stream(self) -> Stream:
        seen = self._pass()
        if {states.shape[1] for _, states, _ in seen.points} != {self.hidden}:
            raise ModelError("its layers have no norms of one residual stream (several streams, or other names)")
        gains = {name: self._gain(name) for name in dict.fromkeys(name for name, _, _ in seen.points)}
        readers = {name: norm for name, given in seen.inputs.items() if (norm := _norm_before(given, seen)) is not None}
        reading = {}
        for name in self.banks:  # what its block reads, the bank reads
            places = [name.rpartition(".")[0], name, *(place for place in readers if place.startswith(f"{name}."))]
            if found := [readers[place] for place in places if place in readers]:
                reading[name] = found[-1]
        if again := [name for name in self.other_norms if name in readers]:
            raise ModelError(f"{again[0]}, with weights of its own, normalizes again what reads the residual stream")
        readers = {name: norm for name, norm in readers.items() if self._matrices(name) and not self._in_bank(name)}
        if idle := sorted(gains.keys() - set(readers.values()) - set(reading.values())):
            raise ModelError(
                f"{idle[0]} normalizes what a block gives back, or is read by something other than linear layers: its "
                "weights cannot be moved into what comes after it"
            )
        writers, banks, parameters = self._writers(seen, readers)
        return Stream(self.hidden, readers, reading, gains, writers, banks, parameters)

    def _is_norm(self, module: nn.Module) -> bool:
        """Has it nothing of its own but vectors of width H, and a norm's name?"""
        own = list(module.parameters())
        return bool(own) and all(p.shape == (self.hidden,) for p in own) and "norm" in type(module).__name__.lower()

    def _on_stream(self, name: str) -> bool:
        """A child of a decoder layer, or of what holds the layers."""
        parent = name.rpartition(".")[0]
        return parent.rpartition(".")[0] in self.layers or f"{parent}." in self.inside

    def _gain(self, name: str) -> tuple[Tensor, float]:
        """What a norm multiplies by, `[H]`, and the value of its weights at which that is 1.

        Raises:
            ModelError: it is no RMSNorm.
        """
        norm, weight = self.modules[name], getattr(self.modules[name], "weight", None)
        known = f"{name} ({type(norm).__name__})"
        if weight is None or sum(1 for _ in norm.parameters()) > 1:
            raise ModelError(f"{known} has other weights than a plain RMSNorm")
        states = 100 * torch.randn(4, self.hidden, generator=torch.Generator().manual_seed(0)).to(weight)
        plain, kept = states * states.square().mean(dim=-1, keepdim=True).rsqrt(), weight.detach().clone()
        gain = norm(states)[0] / plain[0]
        for neutral in (1.0, 0.0):
            weight.data.fill_(neutral)
            made = norm(states)
            weight.data.copy_(kept)
            if torch.allclose(made, plain, atol=1e-4) and torch.allclose(norm(states), plain * gain, atol=1e-3):
                return kept + (1.0 - neutral), neutral
        raise ModelError(f"{known} is no RMSNorm (it may subtract the mean), so a rotation would change what it gives")

    def _matrices(self, name: str) -> bool:
        """Has the module a matrix of its own that takes H numbers?"""
        own = [p for p in self.modules[name].parameters(recurse=False) if p.dim() == 2]
        return any(p.shape[1] == self.hidden for p in own) and not isinstance(self.modules[name], nn.Embedding)

    def _in_bank(self, name: str) -> bool:
        return any(name == bank or name.startswith(f"{bank}.") for bank in self.banks)

    def _pass(self, changed: Callable[[], Any] = lambda: None) -> _Seen:
        """Run the model once; `changed` puts its own hooks on before and returns them."""
        seen, hooks = _Seen(), [*(changed() or ())]
        blocks = {name.rpartition(".")[0] for name in self.banks}
        watched = [n for n in self.modules if self._matrices(n) or n in blocks or n in self.banks]
        for name in (*watched, *self.other_norms):
            hooks.append(self.modules[name].register_forward_pre_hook(_noting(seen, name), with_kwargs=True))
        hooks += [self.modules[n].register_forward_hook(_noting_norm(seen, n)) for n in self.norms]
        hooks += [m.register_forward_hook(lambda *_, n=n: seen.called.add(n)) for n, m in self.modules.items()]
        try:
            with torch.no_grad():
                self.model(**self.inputs, use_cache=False)
        finally:
            for hook in hooks:
                hook.remove()
        return seen

    def _writers(
        self, seen: _Seen, readers: dict[str, str]
    ) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """Writers by kind. One of every group of equal places (layer after layer) is tried."""
        size = torch.cat([states for _, states, _ in seen.points]).square().mean().sqrt()
        vector = torch.randn(self.hidden, generator=torch.Generator().manual_seed(1)).to(size.device) * size
        found: dict[tuple[str, object], bool] = {}

        def is_writer(name: str, kind: object, change: Callable[[], Any]) -> bool:
            group = LAYER.sub("", name), kind
            if group not in found:
                found[group] = _arrives(seen.points, self._pass(change).points, vector)
            return found[group]

        for name in self.other_norms:
            if is_writer(name, "norm", lambda m=self.modules[name]: [_adding(m, vector)]):
                raise ModelError(f"{name}, with weights of its own, normalizes what enters the residual stream")
        linears = []
        for name, module in self.modules.items():
            if self._gives_hidden(name) and name not in readers:
                self._check_called(name, seen)
                if is_writer(name, (type(module), module.weight.shape), lambda m=module: [_adding(m, vector)]):
                    linears.append(name)
        banks = [
            name for name, bank in self.banks.items() if is_writer(name, bank.reached, lambda b=bank: _bank(b, vector))
        ]
        bare = []
        for name, parameter in self.model.named_parameters():
            owner = name.rpartition(".")[0]
            known = owner in readers or owner in self.norms or self._in_bank(owner)
            known |= isinstance(self.modules[owner], nn.Linear | nn.Embedding)
            if (
                not known
                and parameter.shape[-1:] == (self.hidden,)
                and is_writer(name, parameter.shape, lambda p=parameter: [_Shifted(p, vector)])
            ):
                bare.append(name)
        return tuple(linears), tuple(banks), tuple(bare)

    def _gives_hidden(self, name: str) -> bool:
        module = self.modules[name]
        if isinstance(module, nn.Embedding):
            return module.embedding_dim == self.hidden
        return isinstance(module, nn.Linear) and module.out_features == self.hidden and not self._in_bank(name)

    def _check_called(self, name: str, seen: _Seen) -> None:
        if LAYER.sub("", name) not in {LAYER.sub("", other) for other in seen.called}:
            raise ModelError(
                f"the samples never reach {name}, which may write into the residual stream (a picture, or sound, "
                "may be missing among them)"
            )


class _Shifted:
    """A parameter with a vector added, until `remove`."""

    def __init__(self, parameter: nn.Parameter, vector: Tensor):
        self.parameter, self.kept = parameter, parameter.detach().clone()
        parameter.data.add_(vector)

    def remove(self) -> None:
        self.parameter.data.copy_(self.kept)


def _noting(seen: _Seen, name: str) -> Callable[..., None]:
    def hook(_module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        tensors = [one for one in (*given, *named.values()) if isinstance(one, Tensor) and one.is_floating_point()]
        if tensors and tensors[0].numel() and name not in seen.inputs:
            seen.inputs[name] = tensors[0].detach().reshape(-1, tensors[0].shape[-1])

    return hook


def _noting_norm(seen: _Seen, name: str) -> Callable[..., None]:
    def hook(_module: nn.Module, given: tuple[Any, ...], made: Tensor) -> None:
        seen.points.append((name, given[0].detach().flatten(0, -2).clone(), made.detach().flatten(0, -2).clone()))

    return hook


def _adding(module: nn.Module, vector: Tensor) -> Any:
    def hook(_module: nn.Module, _given: Any, made: Any) -> Any:
        return (made[0] + vector, *made[1:]) if isinstance(made, tuple) else made + vector

    return module.register_forward_hook(hook)


def _bank(bank: ExpertBank, vector: Tensor) -> list[Any]:
    parts = bank.module if bank.reached is Reached.LIST else [bank.module]
    return [_adding(part, vector) for part in parts]


def _norm_before(given: Tensor, seen: _Seen) -> str | None:
    """The norm whose output these rows are among; "" where they are the stream's own, None where they are neither."""
    used = given[given.any(dim=1)]  # some families set what belongs to padding to zero
    rows = used[:: max(1, len(used) // COMPARED)][:COMPARED]
    if not len(rows):
        return None
    for name, states, made in seen.points:
        if made.shape[1] == rows.shape[1]:
            for called, source in ((name, made), ("", states)):
                if all((source == row).all(dim=1).any() for row in rows):
                    return called
    return None


def _arrives(before: list[tuple[str, Tensor, Tensor]], after: list[tuple[str, Tensor, Tensor]], vector: Tensor) -> bool:
    """Is the first change of the stream that vector, times one number per token?"""
    for (_, states, _), (_, changed, _) in zip(before, after, strict=True):
        moved = changed - states
        if moved.shape == states.shape and moved.abs().max() > 0:
            share = moved @ vector / vector.square().sum()
            rest = moved - share[:, None] * vector
            return bool(share.abs().max() > EXACT) and bool(rest.norm(dim=1).max() < EXACT * vector.norm())
    return False
