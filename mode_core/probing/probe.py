"""The probe: sees every routed token and every needed attention row, and changes nothing.

It plugs into transformers' own extension points. The attention function registered here calls the model's own kernel
for the output and computes only the few rows that scoring needs beside it; the experts function calls the model's own
experts and hands what went in and came out to an observer. Families that go past these points are watched by hooks
(`adapters` for experts, `attention_sources` for attention). All is in place only inside `with probe:`; afterwards the
model's settings are what they were. The logits stay identical to the last bit.

    with Probe(loaded, signals, observe) as probe:
        probe.run(encoded)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mode_core.errors import CalibrationError
from mode_core.models import Encoded, ExpertBank, LoadedModel, Reached
from mode_core.probing.adapters import Routed, watch_bank
from mode_core.probing.attention import weighted_rows
from mode_core.probing.attention_sources import Read, decoder_layers, find_attention, read_past_interface, serving
from mode_core.probing.bank_positions import Parts
from mode_core.probing.interface import (
    EXPERTS_NAME,
    KERNELS,
    PROBES,
    Kernel,
    asked_configs,
    register,
    set_implementations,
)
from mode_core.probing.observation import Observation
from mode_core.probing.redundancy import query_positions
from mode_core.probing.signals import SIGNALS
from mode_core.probing.signals.base import SignalInput


@dataclass
class _Pass:
    """One forward pass under way."""

    encoded: Encoded
    view: SignalInput
    parts: Parts
    observe: Callable[[Observation], None]
    gradients: bool = False
    rows: dict[str, Tensor] = field(default_factory=dict)  # attention signal -> row weights
    fixed: dict[str, Tensor] = field(default_factory=dict)  # signals with one score for all layers
    by_layer: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    waiting: list[tuple[ExpertBank, Routed, Tensor | None]] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)  # bank -> positions seen


class Probe:
    """See the head of this file. One probe per model at a time.

    Memory: the attention rows of one layer; where a bank's importance comes from a later layer (a signal that judges
    there, or no attention before), the states of the banks in between.
    """

    def __init__(self, loaded: LoadedModel, signals: Sequence[str], observe: Callable[[Observation], None]):
        self.loaded, self.observe = loaded, observe
        self.banks = {id(bank.module): bank for bank in loaded.banks.values()}
        self.layers_name, self.layers = decoder_layers(loaded)
        self.configs = asked_configs(loaded.model, self.layers_name)
        measures = {name: SIGNALS[name].measure for name in signals}
        self.attention = {name: measure for name, measure in measures.items() if hasattr(measure, "row_weights")}
        self.features = {name: measure for name, measure in measures.items() if name not in self.attention}
        self.attending = find_attention(self.layers)
        self._layer_of = {id(one.module): one.layer for one in self.attending.values()}
        self.serving = {bank.layer: serving(bank.layer, self.attending) for bank in loaded.banks.values()}
        self.judges = {name: self._judge(signal.layer) for name, signal in self.attention.items()}
        self._pass: _Pass | None = None
        self._restore: list[tuple[Any, str, str]] = []
        self._undo: list[Callable[[], None]] = []
        if self.attention and not self.attending and loaded.vision_ids:
            raise CalibrationError(self._unreadable())

    def _judge(self, layer: int | None) -> int | None:
        return None if layer is None else serving(min(layer, len(self.layers) - 1), self.attending)

    def _unreadable(self) -> str:
        kinds = sorted({type(m).__name__ for m in self.layers.modules() if "attention" in type(m).__name__.lower()})
        return (
            f"No layer of {type(self.loaded.model).__name__} has an attention that can be read, which "
            f"{', '.join(self.attention)} needs. Looked for {', '.join(Read)}; found: {', '.join(kinds) or 'none'}. "
            "Choose the signals duplication or diversity."
        )

    def __enter__(self) -> Probe:
        register()
        for config in self.configs:
            if id(config) in PROBES:
                raise CalibrationError("This model is being calibrated already; wait until that is done.")
            kernel = config._attn_implementation or "eager"
            if kernel not in KERNELS:
                raise CalibrationError(f"The attention kernel {kernel!r} hides its mask; load the model with 'sdpa'.")
        try:
            self._put_in_place()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _put_in_place(self) -> None:
        for config in self.configs:
            kernel, experts = config._attn_implementation or "eager", config._experts_implementation
            self._restore.append((config, config._attn_implementation, experts))
            PROBES[id(config)] = self
            set_implementations(config, Kernel(kernel), EXPERTS_NAME)
        hooks = [self.layers[0].register_forward_pre_hook(self._entering, with_kwargs=True)]
        hooks += [part.register_forward_pre_hook(self._shared_entrance(n)) for n, part in self._shared_layers()]
        self._undo += [hook.remove for hook in hooks]
        for bank in self.loaded.banks.values():
            if bank.reached is not Reached.INTERFACE:
                self._undo.append(watch_bank(bank, self.loaded.model, self.routed))
        if self.attention:
            past = [one for one in self.attending.values() if one.read is not Read.INTERFACE]
            self._undo += [read_past_interface(one, self.attended) for one in past]

    def __exit__(self, *_: object) -> None:
        for undo in self._undo:
            undo()
        for config, attention, experts in self._restore:
            set_implementations(config, attention, experts)
            del PROBES[id(config)]
        self._restore.clear()
        self._undo.clear()

    def _shared_layers(self) -> list[tuple[int, nn.Module]]:
        """(layer, what holds its banks) of the layers with several banks."""
        names: dict[int, list[str]] = {}
        for bank in self.loaded.banks.values():
            names.setdefault(bank.layer, []).append(bank.name)
        layers = []
        for layer, banks in names.items():
            if len(banks) > 1:
                part = banks[0].removeprefix(f"{self.layers_name}.{layer}.").partition(".")[0]
                layers.append((layer, getattr(self.layers[layer], part)))
        return layers

    def _shared_entrance(self, layer: int) -> Callable[[nn.Module, tuple], None]:
        def note(_: nn.Module, args: tuple) -> None:
            if self._pass is not None:
                self._pass.parts.enters(layer, args[0])

        return note

    def kernel(self, config: Any) -> tuple[str, str | None]:
        """The attention and the experts implementation that the model had before."""
        return next((a or "eager", e) for known, a, e in self._restore if known is config)

    def run(
        self,
        encoded: Encoded,
        observe: Callable[[Observation], None] | None = None,
        gradients: bool = False,
        **options: Any,
    ) -> Any:
        """One forward pass; the observer (or `observe`) is called once per bank. Returns the model's output.

        With `gradients` the pass can be differentiated: every bank's output requires grad, the weights need not.
        `options` go to the model's call. Memory with gradients: what autograd keeps of the whole pass.

        Raises:
            CalibrationError: a bank was not called exactly once, so its family routes past what the probe knows.
        """
        view = SignalInput(encoded.modality, query_positions(encoded))
        self._pass = _Pass(encoded, view, Parts(encoded), observe or self.observe, gradients)
        try:
            with torch.set_grad_enabled(gradients):
                output = self.loaded.model(**encoded.inputs, use_cache=False, **options)
            self._check_all_seen()
        finally:
            self._pass = None
        return output

    def _check_all_seen(self) -> None:
        ongoing = self._pass
        for bank, *_ in ongoing.waiting:
            raise CalibrationError(
                f"Layer {bank.layer} computed no attention that could be read, which "
                f"{', '.join(self.attention)} needs; choose the signals duplication or diversity."
            )
        by_layer: dict[int, int] = {bank.layer: 0 for bank in self.loaded.banks.values()}
        for name, count in ongoing.seen.items():
            by_layer[self.loaded.banks[name].layer] += count
        whole = ongoing.encoded.modality.numel()
        if wrong := [layer for layer, count in by_layer.items() if count != whole]:
            names = [bank.name for bank in self.loaded.banks.values() if bank.layer == wrong[0]]
            missed = [name for name in names if name not in ongoing.seen]
            what = f"not called: {', '.join(missed[:3])}" if missed else f"called more than once in a pass: {names[0]}"
            raise CalibrationError(f"The probe does not see every expert bank ({what}); this family is not read yet.")

    def _entering(self, _: nn.Module, args: tuple, kwargs: dict) -> None:
        """What enters the first decoder layer: the features that some signals look at."""
        ongoing = self._pass
        if ongoing is None:  # the model is used, but not looked at: it writes an answer
            return
        features = args[0] if args else kwargs.get("hidden_states", next(iter(kwargs.values())))
        ongoing.view.features = features.detach().flatten(2)  # several residual streams count as one long state
        if ongoing.gradients:
            features.requires_grad_(True)
        ongoing.fixed |= {name: signal.scores(ongoing.view) for name, signal in self.features.items()}
        ongoing.rows = {name: signal.row_weights(ongoing.view) for name, signal in self.attention.items()}

    def attended(self, layer: int, scores_of: Callable[[Tensor], Tensor]) -> None:
        """Score with one layer's attention, for the signals that look at this layer.

        `scores_of` turns weights of query rows `[S, batch, L]` into the weighted sums of the mean attention over heads.
        """
        ongoing = self._pass
        if ongoing is None:
            return
        needed = layer in self.serving.values()
        wanted = [n for n, judge in self.judges.items() if (needed if judge is None else layer == judge)]
        if not wanted:
            return
        weights = torch.stack([ongoing.rows[name] for name in wanted])
        with torch.no_grad():
            scores = scores_of(weights) if weights.any() else torch.zeros_like(weights)
        for name, score in zip(wanted, scores, strict=True):
            target = ongoing.by_layer.setdefault(layer, {}) if self.judges[name] is None else ongoing.fixed
            target[name] = score
        self._hand_over()

    def attended_through_interface(
        self, module: nn.Module, query: Tensor, key: Tensor, mask: Tensor | None, options: dict[str, Any]
    ) -> None:
        """Score with what one module is about to hand to its attention kernel."""
        layer = self._layer_of.get(id(module))
        if layer is not None and self._pass is not None:
            scaling = options.get("scaling") or query.shape[-1] ** -0.5
            sinks, bias = options.get("s_aux", options.get("sinks")), options.get("position_bias")
            self.attended(layer, lambda rows: weighted_rows(query, key, mask, scaling, rows, sinks, bias))

    def routed(self, bank: ExpertBank, found: Routed) -> None:
        """One bank has run."""
        ongoing = self._pass
        if ongoing is None:
            return
        if bank.name in ongoing.seen or any(bank is other for other, *_ in ongoing.waiting):
            raise CalibrationError(f"{bank.name} was called more than once in a pass; this family is not read yet.")
        ongoing.waiting.append((bank, found, ongoing.parts.rows(bank, found.states)))
        self._hand_over()

    def expert_bank(self, module: nn.Module) -> ExpertBank | None:
        """The bank that a module of fused experts is; None for one outside the decoder (a draft model's)."""
        return self.banks.get(id(module))

    def _hand_over(self) -> None:
        """Tell the observer of every bank whose importance is known."""
        ongoing, still = self._pass, []
        for bank, found, rows in ongoing.waiting:
            importance = ongoing.fixed | ongoing.by_layer.get(self.serving[bank.layer], {})
            if missing := [name for name in (*self.attention, *self.features) if name not in importance]:
                if self.loaded.vision_ids:
                    still.append((bank, found, rows))
                    continue
                importance |= dict.fromkeys(missing, torch.zeros_like(ongoing.encoded.modality, dtype=torch.float32))
            ongoing.seen[bank.name] = len(found.states)
            ongoing.observe(self._observation(bank, found, rows, importance))
        ongoing.waiting = still

    def _observation(
        self, bank: ExpertBank, found: Routed, rows: Tensor | None, importance: dict[str, Tensor]
    ) -> Observation:
        whole = (found.states, found.experts, found.weights, found.output)
        if rows is None:
            return Observation(bank, self._pass.encoded, *whole, importance, found.source)
        count = self._pass.encoded.modality.numel()
        spread = [part.new_zeros(count, part.shape[1]).index_copy_(0, rows, part.detach()) for part in whole]
        return Observation(bank, self._pass.parts.only(rows), *spread, importance, found.source, rows)
