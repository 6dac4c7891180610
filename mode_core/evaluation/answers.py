"""What a model says to one sample, token by token, and what it thinks of a given answer (teacher-forced)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mode_core.evaluation.records import Answer
from mode_core.jobs import Cancel
from mode_core.models.answering import FREE_TOKENS, generate
from mode_core.models.last_logits import last_logits
from mode_core.models.soundness import check_logits
from mode_core.quantization.model_lock import exclusive
from mode_core.samples import Sample

if TYPE_CHECKING:
    from mode_core.models import LoadedModel

BATCH = 32


def ask(loaded: LoadedModel, sample: Sample, max_new_tokens: int = FREE_TOKENS, cancel: Cancel | None = None) -> Answer:
    """The model's greedy answer to one sample, token by token with the probability it was chosen at.

    Raises:
        Cancelled: a stop was asked for; looked at before every token where the model has a loop of its own.
    """
    with exclusive(loaded):
        made = generate(loaded, [sample], max_new_tokens, probabilities=True, cancel=cancel)
    tokenizer = loaded.tokenizer
    chosen = made.sequences[0, -len(made.logits) :]
    shares = torch.stack(made.logits)[:, 0].float().softmax(dim=-1)
    probabilities = shares.gather(1, chosen[:, None])[:, 0].tolist()
    shown = [place for place, token in enumerate(chosen.tolist()) if token not in tokenizer.all_special_ids]
    return Answer(
        tokenizer.decode(chosen, skip_special_tokens=True).strip(),
        tuple(tokenizer.decode([int(chosen[place])]) for place in shown),
        tuple(probabilities[place] for place in shown),
    )


@dataclass(frozen=True)
class AnswerLogits:
    """Logits at the answer positions of a batch, sample after sample.

    `logits` `[N, V]` float32 predict `targets` `[N]`: the tokens of the answer and of its end. `counts[i]` is the
    number of positions of sample i; they sum to N.
    """

    logits: Tensor
    targets: Tensor
    counts: tuple[int, ...]


def answer_logits(loaded: LoadedModel, samples: Sequence[Sample]) -> AnswerLogits:
    """Run samples with their answers once, and keep the positions that predict the answers.

    Memory: batch × longest answer × vocabulary, in float32.
    """
    encoded = loaded.encode(samples, answers=True, padding_side="left")
    logits = forced_logits(loaded.model, encoded.inputs, encoded.answer_mask)
    check_logits(loaded, logits.logits, encoded.inputs, encoded.ids)
    return logits


def forced_logits(model: nn.Module, inputs: Mapping[str, Any], answered: Tensor) -> AnswerLogits:
    """Run inputs that are padded on the left and end with the answers; `answered` `[batch, L]` marks the answers."""
    ids, length = inputs["input_ids"], inputs["input_ids"].shape[1]
    starts = torch.where(answered.any(dim=1), answered.int().argmax(dim=1), length - 1)
    tails = length - starts
    keep = int(tails.max())
    with torch.inference_mode():
        logits = last_logits(model, inputs, keep + 1)
    inside = torch.arange(keep, device=ids.device)[None] >= keep - tails[:, None]
    return AnswerLogits(logits[:, -keep - 1 : -1][inside].float(), ids[:, -keep:][inside], tuple(tails.tolist()))
