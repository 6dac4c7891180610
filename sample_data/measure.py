"""Measures the bundled model: accuracy per task at uniform widths, and who uses which expert."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from mode_core.allocation.records import Allocation
from mode_core.evaluation import Scores, evaluate
from mode_core.importance.bias import jensen_shannon
from mode_core.models import LoadedModel
from mode_core.quantization import quantize_experts
from mode_core.samples import Sample

TEXT, VISION = 1, 2  # values of Encoded.modality


@dataclass(frozen=True)
class Usage:
    """Who uses the experts: token counts, and per bank the shares of selections `[E]` of text and of all tokens."""

    text_tokens: int
    vision_tokens: int
    text: dict[str, np.ndarray]
    everything: dict[str, np.ndarray]

    @property
    def vision_share(self) -> float:
        """Share of tokens that are vision tokens."""
        return self.vision_tokens / (self.text_tokens + self.vision_tokens)

    def divergences(self) -> dict[str, float]:
        """Jensen-Shannon divergence in bits (0 to 1) of text and aggregate frequencies, per bank."""
        return {bank: float(jensen_shannon(self.text[bank], self.everything[bank])) for bank in self.text}


def uniform(loaded: LoadedModel, bits: int) -> Allocation:
    """The same width for every expert."""
    everywhere = {name: np.full(bank.experts, bits) for name, bank in loaded.banks.items()}
    return Allocation(everywhere, (bits,), 0.0, 0.0, False, 0.0, float(bits), method="uniform")


def scores_by_width(
    loaded: LoadedModel, samples: list[Sample], widths: tuple[int, ...], group_size: int
) -> dict[int, Scores]:
    """Scores at 16 bits (untouched) and with all experts rounded to nearest at each of the other widths."""
    found = {16: evaluate(loaded, samples)}
    for bits in widths:
        with quantize_experts(loaded, uniform(loaded, bits), method="rtn", group_size=group_size):
            found[bits] = evaluate(loaded, samples)
    return found


def expert_usage(loaded: LoadedModel, samples: list[Sample], batch_size: int = 16) -> Usage:
    """Counts the routers' selections over the samples' prompts; padding never counts."""
    modality = torch.empty(0)
    counts = {name: np.zeros((2, bank.experts)) for name, bank in loaded.banks.items()}

    def tally(name: str):
        def count(_module: torch.nn.Module, inputs: tuple) -> None:
            chosen = inputs[1]  # experts(hidden [T,H], top_k_index [T,k], top_k_weights [T,k])
            for row, kind in enumerate((TEXT, VISION)):
                picked = chosen[modality == kind].flatten().cpu()
                counts[name][row] += torch.bincount(picked, minlength=counts[name].shape[1]).numpy()

        return count

    hooks = [loaded.model.get_submodule(name).register_forward_pre_hook(tally(name)) for name in loaded.banks]
    tokens = np.zeros(2, dtype=int)
    try:
        for start in range(0, len(samples), batch_size):
            encoded = loaded.encode(samples[start : start + batch_size])
            modality = encoded.modality.flatten()
            tokens += [int((modality == kind).sum()) for kind in (TEXT, VISION)]
            with torch.inference_mode():
                loaded.model(**encoded.inputs, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    text = {name: count[0] / count[0].sum() for name, count in counts.items()}
    everything = {name: count.sum(0) / count.sum() for name, count in counts.items()}
    return Usage(int(tokens[0]), int(tokens[1]), text, everything)
