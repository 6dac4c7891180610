"""What a model says by itself (greedy), and what it thinks of a given answer (teacher-forced), in batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mode_core.errors import SettingsError
from mode_core.evaluation.records import Answer
from mode_core.jobs import Cancel, check
from mode_core.models.last_logits import last_logits, longer_inputs
from mode_core.models.soundness import check_logits
from mode_core.quantization.model_lock import exclusive
from mode_core.samples import Sample

if TYPE_CHECKING:
    from mode_core.models import LoadedModel

BATCH = 32
FREE_TOKENS = 64  # longest answer to a sample without an expected one
SPARE_TOKENS = 2  # tokens beyond the expected answer: enough to tell that a longer answer differs


def ask(loaded: LoadedModel, sample: Sample, max_new_tokens: int = FREE_TOKENS, cancel: Cancel | None = None) -> Answer:
    """The model's greedy answer to one sample, token by token with the probability it was chosen at.

    Raises:
        Cancelled: a stop was asked for; looked at before every token where the model has a loop of its own.
    """
    with exclusive(loaded):
        made = _generate(loaded, [sample], max_new_tokens, probabilities=True, cancel=cancel)
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


def greedy_texts(loaded: LoadedModel, samples: Sequence[Sample], max_new_tokens: int | None = None) -> list[str]:
    """Greedy answers of one batch. Without `max_new_tokens`: two more than the longest expected answer has."""
    if max_new_tokens is None:
        tokenizer = loaded.tokenizer
        answers = [answer for sample in samples for answer in sample.answers]
        lengths = [len(tokenizer(answer, add_special_tokens=False)["input_ids"]) for answer in answers]
        complete = all(sample.answer for sample in samples)
        max_new_tokens = max(lengths) + SPARE_TOKENS if complete else FREE_TOKENS
    made = _generate(loaded, samples, max_new_tokens)
    return [text.strip() for text in loaded.tokenizer.batch_decode(made, skip_special_tokens=True)]


def _generate(
    loaded: LoadedModel,
    samples: Sequence[Sample],
    max_new_tokens: int,
    probabilities: bool = False,
    cancel: Cancel | None = None,
) -> Any:
    """New tokens `[batch, new]`; with `probabilities` what transformers' generate returns whole.

    All that could change the most likely token (penalties, beams) is set to do nothing, whatever the model's own
    generation settings say.
    """
    from transformers import GenerationConfig

    def stop(ids: Tensor, _scores: Tensor, **_: Any) -> Tensor:
        check(cancel)
        return torch.zeros(len(ids), dtype=torch.bool, device=ids.device)

    check(cancel)
    inputs = loaded.encode(samples, padding_side="left").inputs
    if not loaded.model.can_generate():
        made = _generate_plainly(loaded, inputs, max_new_tokens)
        return made if probabilities else made.sequences[:, inputs["input_ids"].shape[1] :]
    settings = GenerationConfig(
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        max_new_tokens=max_new_tokens,
        eos_token_id=loaded.stops or None,
        pad_token_id=loaded.tokenizer.pad_token_id,
        return_dict_in_generate=True,
        output_logits=probabilities,
    )
    with torch.inference_mode():
        made = loaded.model.generate(
            **inputs, generation_config=settings, stopping_criteria=None if cancel is None else [stop]
        )
    return made if probabilities else made.sequences[:, inputs["input_ids"].shape[1] :]


def _generate_plainly(loaded: LoadedModel, inputs: Mapping[str, Any], max_new_tokens: int) -> Any:
    """The same for models whose code has no loop of its own: the whole sequence again for every token."""
    from transformers.generation import GenerateDecoderOnlyOutput

    ids, seen = inputs["input_ids"], []
    made, stops = ids[:, :0], torch.tensor(loaded.stops, device=ids.device)
    real = made.bool()
    with torch.inference_mode():
        while made.shape[1] < max_new_tokens and not torch.isin(made, stops).any(dim=1).all():
            seen.append(last_logits(loaded.model, longer_inputs(inputs, made, real), 1)[:, -1])
            open_still = ~torch.isin(made, stops).any(dim=1, keepdim=True)
            chosen = seen[-1].argmax(dim=-1, keepdim=True)
            made = torch.cat([made, torch.where(open_still, chosen, loaded.tokenizer.pad_token_id or 0)], dim=1)
            real = torch.cat([real, open_still], dim=1)
    return GenerateDecoderOnlyOutput(sequences=torch.cat([ids, made], dim=1), logits=tuple(seen))


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


def batches(samples: Sequence[Sample], batch_size: int) -> Iterator[list[int]]:
    """Positions of samples in batches of like length, so that little is padded; the order is always the same."""

    def size(place: int) -> tuple[int, int, int]:
        sample = samples[place]
        return len(sample.media), len(sample.text), len(sample.answer or "")

    if batch_size < 1:
        raise SettingsError(f"batch_size must be at least 1; got {batch_size}.")
    order = sorted(range(len(samples)), key=size)
    for first in range(0, len(order), batch_size):
        yield order[first : first + batch_size]
