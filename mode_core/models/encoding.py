"""Samples → the model's inputs, with what every position is: padding, text, vision or audio, template or content.

The text is rendered by the model's own chat template and expanded by its own processor. Which tokens a person wrote
and which the template added is found by rendering once more without expanding the images: outside of special tokens
and image placeholders both token sequences are the same, and the first one comes with character offsets.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import partial
from typing import Any

import numpy as np
import torch
from jinja2 import TemplateError
from torch import Tensor

from mode_core.modalities import AUDIO_TOKENS, CODES, TEXT_TOKENS, VISION_TOKENS
from mode_core.models.errors import ModelError
from mode_core.models.media import audio_arguments, heard_sounds, shown_pictures, tokens_of_videos, video_arguments
from mode_core.models.prompt_spans import written_spans
from mode_core.models.template_bounds import check_bounds
from mode_core.samples import MEDIA, Sample, SampleError

PADDING, TEXT, VISION, AUDIO = 0, CODES[TEXT_TOKENS], CODES[VISION_TOKENS], CODES[AUDIO_TOKENS]
MARKS = re.compile("|".join(mark for mark, *_ in MEDIA))
VISION_TOKEN_NAMES = (
    "image_token_id",
    "image_token_index",
    "video_token_id",
    "video_token_index",
    "media_placeholder_token_id",
    "im_patch_id",
)

AUDIO_TOKEN_NAMES = ("audio_token_id", "audio_token_index")
AUDIO_CONFIGS = ("audio_config", "sound_config")  # of what listens


@dataclass
class Encoded:
    """A batch ready for the model; `L` is its longest sample.

    `inputs` is what the model takes (`model(**encoded.inputs)`), on its device. `modality` int8 `[batch, L]`: 0
    padding, 1 text, 2 vision, 3 audio. Boolean `[batch, L]` masks: `special_mask` special tokens, `template_mask`
    these and whatever else the chat template added (role names, line ends), `answer_mask` the tokens of the reference
    answer
    (none without `answers=True`). `grids[i]` lists (rows, columns) of vision tokens of each picture of sample i in the
    order of its tokens, or is None where the processor does not tell; a video counts as one picture for every step in
    time that has tokens. `frames[i]` says which those are (see `Sample.pictures`). `sounds[i]` are (tokens,
    seconds) of its sounds, empty where not known. `videos[i]` are its vision tokens that show frames of videos, None
    where these cannot be told from its pictures'. `ids` are the samples'.
    """

    inputs: Any
    modality: Tensor
    special_mask: Tensor
    template_mask: Tensor
    answer_mask: Tensor
    ids: tuple[str, ...]
    grids: tuple[tuple[tuple[int, int], ...] | None, ...] = ()
    frames: tuple[tuple[tuple[int, int | None], ...] | None, ...] = ()
    sounds: tuple[tuple[tuple[int, float], ...], ...] = ()
    videos: tuple[int | None, ...] = ()

    @property
    def attended(self) -> np.ndarray:
        """Positions that are no padding, for any bank: bool `[batch, L]`."""
        mask = self.inputs.get("attention_mask")
        if mask is None or mask.shape != self.modality.shape:
            return (self.modality != PADDING).cpu().numpy()
        return mask.bool().cpu().numpy()

    @property
    def lengths(self) -> list[int]:
        """Tokens of each sample, padding left out."""
        return (self.modality != PADDING).sum(dim=1).tolist()


def tokenizer_of(processor: Any) -> Any:
    """A processor's tokenizer; the tokenizer itself where a model reads text only and has no processor."""
    return getattr(processor, "tokenizer", processor)


def vision_token_ids(config: Any, processor: Any = None) -> tuple[int, ...]:
    """Token ids that stand for image and video positions, from a model's configuration, else from its processor.

    Raises:
        ModelError: neither names any.
    """
    for holder in (config, processor, tokenizer_of(processor)):
        found = {getattr(holder, name, None) for name in VISION_TOKEN_NAMES}
        if ids := tuple(sorted(i for i in found if isinstance(i, int) and i >= 0)):
            return ids
    raise ModelError(
        f"Neither the configuration of {type(config).__name__} nor its processor names an image token; looked for "
        f"{', '.join(VISION_TOKEN_NAMES)}. Choose a model that reads pictures."
    )


def audio_token_ids(config: Any) -> tuple[int, ...]:
    """Token ids that stand for audio positions; none where the model's configuration has nothing that listens."""
    listens = any(getattr(config, name, None) is not None for name in AUDIO_CONFIGS)
    found = {getattr(config, name, None) for name in AUDIO_TOKEN_NAMES} if listens else set()
    return tuple(sorted(i for i in found if isinstance(i, int) and i >= 0))


def encode(
    processor: Any,
    vision_ids: Sequence[int],
    samples: Sequence[Sample],
    answers: bool = False,
    padding_side: str = "right",
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    audio_ids: Sequence[int] = (),
) -> Encoded:
    """Encode a batch; see `Encoded`. With `answers` the reference answer and an end of turn follow the prompt.

    A model that reads text only has its tokenizer as `processor` and no `vision_ids`; one that hears nothing has no
    `audio_ids`. Pictures and sound come in the type `dtype`, which must be the model's own; None leaves them as the
    processor makes them.

    Raises:
        SampleError: a sample without an answer where one is needed, a text that holds a control token of the
            model, a picture for a model that reads text only, a sound for one that hears nothing, or anything that the
            processor refuses.
        ModelError: the processor has no chat template or no fast tokenizer.
    """
    tokenizer = tokenizer_of(processor)
    if deaf := [sample for sample in samples if sample.audio and not audio_ids]:
        raise SampleError(
            f"Sample {deaf[0].id} has a sound ({deaf[0].audio[0].name}), which this model does not hear; leave the "
            "sample out, or choose a model that does."
        )
    prompts = [_render(processor, sample) for sample in samples]
    endings = [_ending(tokenizer, sample) if answers else "" for sample in samples]
    texts = [prompt + ending for prompt, ending in zip(prompts, endings, strict=True)]
    bos = tokenizer.bos_token
    add_special = not (bos and texts[0].startswith(bos))
    inputs = _process(processor, samples, texts, padding_side, add_special)
    ids, attended = inputs["input_ids"], inputs["attention_mask"].bool()
    vision = torch.isin(ids, torch.tensor(vision_ids)) & attended
    audio = torch.isin(ids, torch.tensor(audio_ids, dtype=ids.dtype)) & attended
    media = vision | audio
    special = torch.isin(ids, torch.tensor(_special_ids(tokenizer))) & attended & ~media
    template, answer = torch.zeros_like(special), torch.zeros_like(special)
    for row, sample in enumerate(samples):
        ordinary = torch.nonzero(attended[row] & ~media[row] & ~special[row]).ravel()
        content = _content_flags(processor, sample, texts[row], add_special, ids[row, ordinary].tolist())
        template[row, ordinary] = ~torch.tensor(content, dtype=torch.bool)
        if answers:
            answer[row, _answer_positions(tokenizer, sample, endings[row], ids[row], attended[row])] = True
    modality = torch.where(vision, VISION, torch.where(audio, AUDIO, attended.to(torch.int8) * TEXT)).to(torch.int8)
    if lost := [sample for row, sample in enumerate(samples) if sample.audio and not audio[row].any()]:
        raise SampleError(f"Sample {lost[0].id}: the model's chat template or processor leaves its sound out.")
    masks = (modality, special, template | special, answer)
    shown = shown_pictures(processor, inputs, samples)
    heard = tuple(heard_sounds(sample, row) for sample, row in zip(samples, audio, strict=True))
    rows = zip(samples, ids, vision, zip(*shown, strict=True), strict=True)
    videos = tuple(tokens_of_videos(processor, *row) for row in rows)
    return Encoded(
        _placed(inputs, device, dtype),
        *(mask.to(device) for mask in masks),
        tuple(s.id for s in samples),
        *shown,
        heard,
        videos,
    )


def _placed(inputs: Any, device: torch.device | str, dtype: torch.dtype | None) -> Any:
    """Everything on the device, floating numbers in the model's type; many vision towers do not convert them."""
    inputs = inputs.to(device)
    for name, value in inputs.items():
        if dtype is not None and isinstance(value, Tensor) and value.is_floating_point():
            inputs[name] = value.to(dtype)
    return inputs


def _process(processor: Any, samples: Sequence[Sample], texts: list[str], side: str, add_special: bool) -> Any:
    """The processor's own call; pictures as a list per sample, as its chat call passes them; videos in one list."""
    images = [[source.load() for source in sample.images] for sample in samples]
    pictures = {"images": images} if any(images) else {}
    pictures |= video_arguments(processor, samples) | audio_arguments(processor, samples)
    try:
        return processor(
            text=texts,
            **pictures,
            return_tensors="pt",
            padding=True,
            padding_side=side,
            add_special_tokens=add_special,
        )
    except (ValueError, TypeError, IndexError) as refused:
        if isinstance(refused, SampleError):
            raise
        if len(samples) > 1:  # name the one at fault, where one is at fault by itself
            for sample, each in zip(samples, texts, strict=True):
                _process(processor, [sample], [each], side, add_special)
        names = ", ".join(sample.id for sample in samples)
        raise SampleError(f"The model's processor refused {names}: {refused}") from refused


def _render(processor: Any, sample: Sample) -> str:
    tokenizer = tokenizer_of(processor)
    if tokenizer is processor and sample.media:
        raise SampleError(
            f"Sample {sample.id} has a picture ({sample.media[0].name}), but this model reads text only; "
            "leave the sample out, or choose a model that reads pictures."
        )
    for text in sample.texts:
        if held := [token for token in tokenizer.all_special_tokens if token in text]:
            raise SampleError(f"Sample {sample.id}: its text holds the model's control token {held[0]!r}; take it out.")
    _check_there(processor)
    try:
        text = _templated(processor, sample.prompt())
    except TemplateError as refused:
        raise SampleError(f"Sample {sample.id}: the model's chat template refuses its turns ({refused}).") from None
    said = [
        turn["content"].rpartition("</think>")[2].strip() for turn in sample.messages if turn["role"] == "assistant"
    ]
    if lost := [words for words in said if not MARKS.search(words) and words not in text]:
        raise SampleError(
            f"Sample {sample.id}: the model's chat template leaves out an earlier answer ({lost[0][:40]!r}); give the "
            "last question alone."
        )
    return text


def check_template(processor: Any) -> None:
    """Refuse a processor (or tokenizer) that does not say how a chat is written, or whose template is broken.

    Raises:
        ModelError: what to do.
    """
    _check_there(processor)
    try:
        _templated(processor, [{"role": "user", "content": [{"type": "text", "text": "?"}]}])
    except TemplateError as broken:
        raise ModelError(
            f"The chat template of the model's processor is broken: a plain question cannot be written with it "
            f"({type(broken).__name__}: {broken}). Copy it anew from where the model was published."
        ) from None


def _check_there(processor: Any) -> None:
    found = getattr(processor, "chat_template", None) or getattr(tokenizer_of(processor), "chat_template", None)
    if not found:
        where = getattr(tokenizer_of(processor), "name_or_path", "") or "the model's folder"
        raise ModelError(
            f"The model's processor has no chat template, so no sample can be written for it; copy chat_template.jinja "
            f"(or chat_template.json) into {where} from where the model was published."
        )
    for template in found.values() if isinstance(found, dict) else [found]:
        check_bounds(str(template))


def _templated(processor: Any, turns: list[dict[str, Any]]) -> str:
    """The chat template's text; that of a model that reads text only takes each turn as one string."""
    if tokenizer_of(processor) is processor:
        turns = [{"role": turn["role"], "content": "".join(p["text"] for p in turn["content"])} for turn in turns]
    try:
        return processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as odd:
        raise TemplateError(f"{type(odd).__name__}: {odd}") from None


def _ending(tokenizer: Any, sample: Sample) -> str:
    if sample.answer is None:
        raise SampleError(f"Sample {sample.id} has no answer, which is needed here; add 'answer' to it.")
    return sample.answer + (tokenizer.eos_token or "")


def _special_ids(tokenizer: Any) -> list[int]:
    """Ids of all control tokens: those the tokenizer calls special and those it never splits as text."""
    added = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return sorted(added | set(tokenizer.all_special_ids))


def _content_flags(processor: Any, sample: Sample, text: str, add_special: bool, ordinary: list[int]) -> list[bool]:
    """For each ordinary token of the expanded sample: is it in what a person wrote (prompt or answer)?"""
    tokenizer = tokenizer_of(processor)
    if not tokenizer.is_fast:
        raise ModelError(f"{type(tokenizer).__name__} gives no character offsets; a fast tokenizer is needed.")
    found = tokenizer(text, return_offsets_mapping=True, add_special_tokens=add_special)
    spans = written_spans(sample, text, partial(_templated, processor))
    special = {*_special_ids(tokenizer)}
    plain = [
        (token, any(start < to and end > since for since, to in spans))
        for token, (start, end) in zip(found["input_ids"], found["offset_mapping"], strict=True)
        if token not in special
    ]
    if [token for token, _ in plain] == ordinary:
        return [inside for _, inside in plain]
    flags = [False] * len(ordinary)  # the processor wrote ordinary tokens around the images: these are template
    matcher = SequenceMatcher(None, [token for token, _ in plain], ordinary, autojunk=False)
    for match in matcher.get_matching_blocks():
        flags[match.b : match.b + match.size] = [inside for _, inside in plain[match.a : match.a + match.size]]
    return flags


def _answer_positions(tokenizer: Any, sample: Sample, ending: str, ids: Tensor, attended: Tensor) -> Tensor:
    """Positions of the answer's tokens: the text ends with the answer and the end of the turn."""
    tail = tokenizer(ending, add_special_tokens=False)["input_ids"]
    used = torch.nonzero(attended).ravel()
    last = used[-len(tail) :]
    if ids[last].tolist() != tail:
        raise SampleError(f"Sample {sample.id}: the tokenizer joins the answer with the prompt before it.")
    return last[: len(tokenizer(sample.answer, add_special_tokens=False)["input_ids"])]
