"""What a model says to samples by itself: greedy answers, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mode_core.errors import SettingsError
from mode_core.jobs import Cancel, check
from mode_core.models.last_logits import last_logits, longer_inputs
from mode_core.samples import Sample

if TYPE_CHECKING:
    from mode_core.models.loading import LoadedModel

FREE_TOKENS = 64  # longest answer to a sample without an expected one
SPARE_TOKENS = 2  # tokens beyond the expected answer: enough to tell that a longer answer differs


def own_answers(
    loaded: LoadedModel, samples: Sequence[Sample], tokens: int, batch_size: int = 32, cancel: Cancel | None = None
) -> list[Sample]:
    """The samples with the model's own greedy answers, of at most `tokens` tokens, whatever answers they had.

    Raises:
        SampleError: a sample that the processor refuses. Cancelled: a stop was asked for.
    """
    found = copy(samples) if isinstance(samples, list) else list(samples)  # a `SampleList` stays one
    for places in batches(samples, batch_size):
        said = greedy_texts(loaded, [samples[place] for place in places], tokens)
        for place, text in zip(places, said, strict=True):
            found[place] = replace(samples[place], answer=text, other_answers=())
        check(cancel)
    return found


def greedy_texts(loaded: LoadedModel, samples: Sequence[Sample], max_new_tokens: int | None = None) -> list[str]:
    """Greedy answers of one batch. Without `max_new_tokens`: two more than the longest expected answer has."""
    if max_new_tokens is None:
        tokenizer = loaded.tokenizer
        answers = [answer for sample in samples for answer in sample.answers]
        lengths = [len(tokenizer(answer, add_special_tokens=False)["input_ids"]) for answer in answers]
        complete = all(sample.answer for sample in samples)
        max_new_tokens = max(lengths) + SPARE_TOKENS if complete else FREE_TOKENS
    made = generate(loaded, samples, max_new_tokens)
    return [text.strip() for text in loaded.tokenizer.batch_decode(made, skip_special_tokens=True)]


def generate(
    loaded: LoadedModel,
    samples: Sequence[Sample],
    max_new_tokens: int,
    probabilities: bool = False,
    cancel: Cancel | None = None,
) -> Any:
    """New tokens `[batch, new]`; with `probabilities` what transformers' generate returns whole.

    All that could change the most likely token (penalties, beams) is set to do nothing, whatever the model's own
    generation settings say.

    Raises:
        Cancelled: a stop was asked for; looked at before every token where the model has a loop of its own.
    """
    from transformers import GenerationConfig

    def stop(ids: Tensor, _scores: Tensor, **_: Any) -> Tensor:
        check(cancel)
        return torch.zeros(len(ids), dtype=torch.bool, device=ids.device)

    check(cancel)
    inputs = loaded.encode(samples, padding_side="left").inputs
    context = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    if context is not None:
        max_new_tokens = max(1, min(max_new_tokens, context - inputs["input_ids"].shape[1]))
    if not loaded.model.can_generate():
        made = generate_plainly(loaded, inputs, max_new_tokens)
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


def generate_plainly(loaded: LoadedModel, inputs: Mapping[str, Any], max_new_tokens: int) -> Any:
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
