"""A tokenizer of a few dozen words, with the control tokens that a family's processor asks for at fixed ids."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

WORDS = "system user assistant what colour is the circle square triangle red green blue yes no how many are there a it "
VOCABULARY = 300
PAD, START, END, AUDIO, IMAGE, VIDEO = 0, 1, 2, 5, 6, 7  # ids that the configurations in `configs` use
FREE = "<|free-{}|>"


def template(image: str, audio: str = "") -> str:
    """A chat template in which `image` stands for a picture and `audio` for a sound (where the model hears any);
    text-only models get turns as plain strings."""
    sound = f"{{%- elif part.type == 'audio' -%}}{{{{- '{audio}' -}}}}" if audio else ""
    return (
        "{%- for message in messages -%}{{- '<|start|>' + message.role + '\n' -}}"
        "{%- if message.content is string -%}{{- message.content -}}{%- else -%}"
        "{%- for part in message.content -%}"
        f"{{%- if part.type == 'image' -%}}{{{{- '{image}' -}}}}"
        f"{sound}{{%- else -%}}{{{{- part.text -}}}}{{%- endif -%}}{{%- endfor -%}}{{%- endif -%}}"
        "{{- '<|end|>\n' -}}{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{- '<|start|>assistant\n' -}}{%- endif -%}"
    )


def word_level(special: Sequence[str]) -> Any:
    """The rules of a tokenizer: `special` take the first ids; line ends are tokens, unknown words share one token."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    words = [*special, "\n", *re.findall(r"\S", "?.,!0123456789"), *WORDS.split()]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<|unknown|>"))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" +"), "removed"),
            pre_tokenizers.Split(Regex(r"\n|[0-9]|[^\W\d]+|[^\w\s]"), "isolated"),
        ]
    )
    return core


def tokenizer(control: Mapping[int, str] | None = None, named: Mapping[str, str] | None = None) -> Any:
    """Words, digits and marks; `control` puts special tokens at ids, `named` gives the tokenizer attributes of them
    (`image_token="<image>"` makes `tokenizer.image_token` and `image_token_id`)."""
    from transformers import PreTrainedTokenizerFast

    fixed = {PAD: "<|pad|>", START: "<|start|>", END: "<|end|>"} | dict(control or {})
    special = [fixed.get(place, FREE.format(place)) for place in range(max(20, max(fixed) + 1))]
    return PreTrainedTokenizerFast(
        tokenizer_object=word_level([*special, "<|unknown|>"]),
        pad_token="<|pad|>",
        eos_token="<|end|>",
        unk_token="<|unknown|>",
        extra_special_tokens={f"control_{i}_token": token for i, token in enumerate(special)} | dict(named or {}),
        clean_up_tokenization_spaces=False,
        model_max_length=4096,
    )
