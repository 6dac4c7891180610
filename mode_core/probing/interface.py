"""The probe's place in transformers' extension points: an attention and an experts function under names of its own.

While a probe is in place, the configurations of the decoder name these; each calls what the model had before, and tells
the probe.
"""

from __future__ import annotations

import sys
from typing import Any, Protocol

from torch import Tensor, nn

from mode_core.models import ExpertBank
from mode_core.probing.adapters import Routed

EXPERTS_NAME = "mode_probe"
KERNELS = ("sdpa", "eager")  # attention kernels that take masks which the rows can be read from


class Listener(Protocol):
    """What the functions here tell: a probe."""

    def kernel(self, config: Any) -> tuple[str, str | None]: ...
    def expert_bank(self, module: nn.Module) -> ExpertBank | None: ...
    def routed(self, bank: ExpertBank, found: Routed) -> None: ...
    def attended_through_interface(
        self, module: nn.Module, query: Tensor, key: Tensor, mask: Tensor | None, options: dict[str, Any]
    ) -> None: ...


PROBES: dict[int, Listener] = {}  # by id of the configuration whose modules are probed


class Kernel(str):
    """A name of the probe for a kernel that it stands in for; equals that kernel's name, too.

    Some families do part of their attention themselves where the kernel's name is one of some that they know (block
    masks of sparse attention). They must go on doing so.
    """

    __hash__ = str.__hash__

    def __new__(cls, kernel: str) -> Kernel:
        made = super().__new__(cls, f"mode_probe_{kernel}")
        made.kernel = kernel
        return made

    def __eq__(self, other: object) -> bool:
        return str.__eq__(self, other) is True or other == self.kernel

    def __ne__(self, other: object) -> bool:
        return not self == other


def asked_configs(model: nn.Module, layers_name: str) -> list[Any]:
    """Every configuration object that modules of the decoder ask for their implementation."""
    decoder = model.get_submodule(layers_name.rpartition(".")[0])
    configs = {id(m.config): m.config for m in decoder.modules() if hasattr(getattr(m, "config", None), "to_dict")}
    return list(configs.values())


def set_implementations(config: Any, attention: str | None, experts: str | None) -> None:
    """Set both on this configuration alone; the public setters go on to those inside it (of a vision tower)."""
    config._attn_implementation_internal, config._experts_implementation_internal = attention, experts


def _probed_experts(
    module: nn.Module, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor, *args: Any, **kwargs: Any
) -> Tensor:
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    probe = PROBES[id(module.config)]
    name = probe.kernel(module.config)[1]
    own = ALL_EXPERTS_FUNCTIONS.get_interface(name, type(module).forward.__wrapped__)
    output = own(module, hidden_states, top_k_index, top_k_weights, *args, **kwargs)
    if (bank := probe.expert_bank(module)) is not None:
        probe.routed(bank, Routed(hidden_states, top_k_index, top_k_weights, output, output))
    return output


def _probed_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> Any:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    probe = PROBES[id(module.config)]
    own_code = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    own = ALL_ATTENTION_FUNCTIONS.get_interface(probe.kernel(module.config)[0], own_code)
    probe.attended_through_interface(module, query, key, attention_mask, kwargs)
    return own(module, query, key, value, attention_mask, **kwargs)


def register() -> None:
    """Tell transformers of the functions above; again is harmless. Here, since importing transformers takes long."""
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_EXPERTS_FUNCTIONS.register(EXPERTS_NAME, _probed_experts)
    for kernel in KERNELS:
        ALL_ATTENTION_FUNCTIONS.register(f"mode_probe_{kernel}", _probed_attention)
        ALL_MASK_ATTENTION_FUNCTIONS.register(f"mode_probe_{kernel}", ALL_MASK_ATTENTION_FUNCTIONS[kernel])
