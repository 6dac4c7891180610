"""Numbers that are not finite: looked for where they spoil a measurement, and traced to a bank and its experts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mode_core.models.errors import ModelError
from mode_core.models.offloading import in_memory

if TYPE_CHECKING:
    from mode_core.models.banks import ExpertBank
    from mode_core.models.loading import LoadedModel

SHOWN = 5  # experts that a refusal names


def check_logits(loaded: LoadedModel, logits: Tensor, inputs: Mapping[str, Any], ids: Sequence[str]) -> None:
    """Refuse logits `[…, V]` of these samples that are NaN or infinite; padding left out before.

    Where they are, the same inputs are run once more to find the first bank that gives such numbers.

    Raises:
        ModelError: names the bank and its experts, and what to do.
    """
    if bool(logits.isfinite().all()):
        return
    raise ModelError(
        f"The logits of {loaded.name} are not finite (NaN or infinity) on the samples {', '.join(ids[:3])}: "
        f"{_origin(loaded, inputs)}. Nothing can be measured so: load it in another type (--dtype bfloat16 or float32; "
        f"now {str(loaded.dtype).removeprefix('torch.')}), or get the weights anew."
    )


def _origin(loaded: LoadedModel, inputs: Mapping[str, Any]) -> str:
    """Where numbers stop being finite in a pass, in words."""
    origins: list[str] = []

    def look(bank: ExpertBank) -> Any:
        def hook(_: object, args: tuple, kwargs: dict, output: object) -> None:
            states = args[0] if args else kwargs.get("hidden_states")
            made = output[0] if isinstance(output, tuple) else output
            if origins or not isinstance(states, Tensor) or bool(made.isfinite().all()):
                return
            if not bool(states.isfinite().all()):
                origins.append(f"what enters the bank {bank.name} is not finite already")
            else:
                origins.append(f"the bank {bank.name}{_experts(bank, states.reshape(-1, states.shape[-1]))}")

        return hook

    hooks = [
        loaded.model.get_submodule(bank.name.rpartition(".")[0]).register_forward_hook(look(bank), with_kwargs=True)
        for bank in loaded.banks.values()
    ]
    try:
        with torch.inference_mode():
            loaded.model(**inputs, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return origins[0] if origins else "all expert banks give finite numbers, so it happens behind them"


def _experts(bank: ExpertBank, states: Tensor) -> str:
    """Which experts of a bank give numbers that are not finite for states `[n, H]`."""
    with in_memory(bank.module):
        wrong = [e for e in range(bank.experts) if not bool(bank.own_forward(states, e).isfinite().all())]
    more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
    named = f", expert{'s' * (len(wrong) > 1)} {', '.join(map(str, wrong[:SHOWN]))}{more}"
    return named if wrong else ", though none of its experts by itself"
