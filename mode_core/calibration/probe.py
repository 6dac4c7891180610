"""The probe: sees every routed token and every needed attention row, and changes nothing.

It plugs into transformers' own extension points. The attention function registered here calls the model's own kernel
for the output and computes only the few rows that scoring needs beside it; the experts function calls the model's own
experts and hands what went in and came out to an observer. Both are in place only inside `with probe:`; afterwards the
model's settings are what they were. The logits stay identical to the last bit.

    with Probe(loaded, signals, observe) as probe:
        probe.run(encoded)
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mode_core.calibration.attention import weighted_rows
from mode_core.calibration.errors import CalibrationError
from mode_core.calibration.redundancy import query_positions
from mode_core.calibration.signals import SIGNALS, View
from mode_core.models import Encoded, ExpertBank, LoadedModel

EXPERTS_NAME = "mode_probe"
KERNELS = ("sdpa", "eager")  # attention kernels that take masks which the rows can be read from
_PROBES: dict[int, Probe] = {}  # by id of the configuration whose modules are probed


@dataclass(frozen=True)
class Observation:
    """What one bank saw in one batch; T = batch × L rows, padding included (see `encoded.modality`).

    `states` `[T, H]` entered the bank, `output` `[T, H]` left it; `experts` int64 and `weights` `[T, k]` are the
    router's choice. `importance[signal]` `[batch, L]` ranks the vision tokens (higher = kept first).
    """

    bank: ExpertBank
    encoded: Encoded
    states: Tensor
    experts: Tensor
    weights: Tensor
    output: Tensor
    importance: dict[str, Tensor]


@dataclass
class _Pass:
    """One forward pass under way."""

    encoded: Encoded
    view: View
    observe: Callable[[Observation], None]
    gradients: bool = False
    rows: dict[str, Tensor] = field(default_factory=dict)  # attention signal -> row weights
    fixed: dict[str, Tensor] = field(default_factory=dict)  # signals with one score for all layers
    by_layer: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    waiting: list[tuple[ExpertBank, tuple[Tensor, ...]]] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)


class Probe:
    """See the head of this file. One probe per model at a time.

    Memory: the attention rows of one layer; where a signal judges at a later layer, the states of the banks before it.
    """

    def __init__(self, loaded: LoadedModel, signals: Sequence[str], observe: Callable[[Observation], None]):
        self.loaded, self.observe = loaded, observe
        self.banks = {id(bank.module): bank for bank in loaded.banks.values()}
        self.decoder = _decoder(loaded)
        self.configs = _configs(self.decoder)
        self.attention = {name: SIGNALS[name] for name in signals if hasattr(SIGNALS[name], "row_weights")}
        self.features = {name: SIGNALS[name] for name in signals if name not in self.attention}
        self.needed = {bank.layer for bank in loaded.banks.values()}
        self.judges = {name: self._judge(signal.layer) for name, signal in self.attention.items()}
        self._pass: _Pass | None = None
        self._restore: list[tuple[Any, str, str]] = []

    def _judge(self, layer: int | None) -> int | None:
        return None if layer is None else min(layer, len(self.decoder.layers) - 1)

    def __enter__(self) -> Probe:
        _register()
        for config in self.configs:
            if id(config) in _PROBES:
                raise CalibrationError("This model is being calibrated already; wait until that is done.")
            kernel = config._attn_implementation or "eager"
            if kernel not in KERNELS:
                raise CalibrationError(f"The attention kernel {kernel!r} hides its mask; load the model with 'sdpa'.")
        for config in self.configs:
            kernel, experts = config._attn_implementation or "eager", config._experts_implementation
            self._restore.append((config, config._attn_implementation, experts))
            _PROBES[id(config)] = self
            config._attn_implementation = f"mode_probe_{kernel}"
            config._experts_implementation = EXPERTS_NAME
        self._hook = self.decoder.layers[0].register_forward_pre_hook(self._entering, with_kwargs=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()
        for config, attention, experts in self._restore:
            config._attn_implementation, config._experts_implementation = attention, experts
            del _PROBES[id(config)]
        self._restore.clear()

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
            CalibrationError: a bank was not called exactly once, so its family routes past transformers' interface.
        """
        view = View(encoded.modality, query_positions(encoded))
        self._pass = _Pass(encoded, view, observe or self.observe, gradients)
        try:
            with torch.set_grad_enabled(gradients):
                output = self.loaded.model(**encoded.inputs, use_cache=False, **options)
            self._check_all_seen()
        finally:
            self._pass = None
        return output

    def _check_all_seen(self) -> None:
        for bank, _ in self._pass.waiting:
            raise CalibrationError(
                f"Layer {bank.layer} computed no attention that could be read, which "
                f"{', '.join(self.attention)} needs; choose the signals duplication or diversity."
            )
        if sorted(self._pass.seen) != sorted(self.loaded.banks):
            missed = sorted(set(self.loaded.banks) - set(self._pass.seen))
            what = f"not called: {', '.join(missed[:3])}" if missed else "called more than once in a pass"
            raise CalibrationError(f"The probe does not see every expert bank ({what}); this family is not read yet.")

    def _entering(self, _: nn.Module, args: tuple, kwargs: dict) -> None:
        """What enters the first decoder layer: the features that some signals look at."""
        now = self._pass
        if now is None:  # the model is used, but not looked at: it writes an answer
            return
        features = args[0] if args else kwargs["hidden_states"]
        now.view.features = features.detach()
        if now.gradients:
            features.requires_grad_(True)
        now.fixed |= {name: signal.scores(now.view) for name, signal in self.features.items()}
        now.rows = {name: signal.row_weights(now.view) for name, signal in self.attention.items()}

    def attended(self, layer: int, query: Tensor, key: Tensor, mask: Tensor | None, scaling: float) -> None:
        """Score with one layer's attention, for the signals that look at this layer."""
        now = self._pass
        wanted = [n for n, judge in self.judges.items() if (layer in self.needed if judge is None else layer == judge)]
        if not wanted or now is None:
            return
        with torch.no_grad():
            scores = weighted_rows(query, key, mask, scaling, torch.stack([now.rows[name] for name in wanted]))
        for name, score in zip(wanted, scores, strict=True):
            target = now.by_layer.setdefault(layer, {}) if self.judges[name] is None else now.fixed
            target[name] = score
        self._hand_over()

    def routed(self, module: nn.Module, tensors: tuple[Tensor, ...]) -> None:
        """One bank has run: (states, experts, weights, output)."""
        if self._pass is not None and (bank := self.banks.get(id(module))) is not None:
            if len(tensors[0]) != self._pass.encoded.modality.numel():
                raise CalibrationError(
                    f"{bank.name} sees {len(tensors[0])} of {self._pass.encoded.modality.numel()} positions; "
                    "families whose banks see only a part of the tokens are not read yet."
                )
            self._pass.waiting.append((bank, tensors))
            self._hand_over()

    def _hand_over(self) -> None:
        """Tell the observer of every bank whose importance is known."""
        now, still = self._pass, []
        for bank, tensors in now.waiting:
            importance = now.fixed | now.by_layer.get(bank.layer, {})
            if len(importance) < len(self.attention) + len(self.features):
                still.append((bank, tensors))
                continue
            now.seen.append(bank.name)
            now.observe(Observation(bank, now.encoded, *tensors, importance))
        now.waiting = still


def _decoder(loaded: LoadedModel) -> nn.Module:
    """The module whose `layers` hold the banks."""
    name = next(iter(loaded.banks))
    prefix = name.partition(".layers.")[0]
    if prefix == name:
        raise CalibrationError(f"The bank {name} lies in no 'layers' of a decoder; this family is not read yet.")
    return loaded.model.get_submodule(prefix)


def _configs(decoder: nn.Module) -> list[Any]:
    """Every configuration object that modules of the decoder ask for their implementation."""
    found = {id(m.config): m.config for m in decoder.modules() if hasattr(getattr(m, "config", None), "to_dict")}
    return list(found.values())


def _probed_experts(
    module: nn.Module, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor, *args: Any, **kwargs: Any
) -> Tensor:
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    probe = _PROBES[id(module.config)]
    name = probe.kernel(module.config)[1]
    own = ALL_EXPERTS_FUNCTIONS.get_interface(name, type(module).forward.__wrapped__)
    output = own(module, hidden_states, top_k_index, top_k_weights, *args, **kwargs)
    probe.routed(module, (hidden_states, top_k_index, top_k_weights, output))
    return output


def _probed_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> Any:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    probe = _PROBES[id(module.config)]
    own_code = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    own = ALL_ATTENTION_FUNCTIONS.get_interface(probe.kernel(module.config)[0], own_code)
    scaling = kwargs.get("scaling")
    probe.attended(module.layer_idx, query, key, attention_mask, scaling or query.shape[-1] ** -0.5)
    return own(module, query, key, value, attention_mask, **kwargs)


def _register() -> None:
    """Tell transformers of the functions above; again is harmless. Here, since importing transformers takes long."""
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_EXPERTS_FUNCTIONS.register(EXPERTS_NAME, _probed_experts)
    for kernel in KERNELS:
        ALL_ATTENTION_FUNCTIONS.register(f"mode_probe_{kernel}", _probed_attention)
        ALL_MASK_ATTENTION_FUNCTIONS.register(f"mode_probe_{kernel}", ALL_MASK_ATTENTION_FUNCTIONS[kernel])
