"""The turns of an entry in whichever form they were published → prompt, answer, and the pictures named within them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mode_core.samples.images import SampleError
from mode_core.samples.records import MEDIA
from mode_core.samples.values import Odd, given, listed, told

Turn = dict[str, str]

CHATS = ("messages", "conversations")
TEXT_KEYS = ("text", "question", "prompt")
ASKED = (("query", "response", ""), ("instruction", "output", "input"))  # question, answer, more to the question
OPTION_KEYS = ("options", "choices")
ROLES = {"human": "user", "gpt": "assistant", "model": "assistant", "developer": "system"} | {
    role: role for role in ("user", "assistant", "system")
}
_INLINE = re.compile(r"<(img|video|audio)>\s*([^<>\n]*(?:\.\w{2,5}|://[^<>\n]*))\s*</\1>")  # Qwen-VL, ms-swift
_MARKS = {kind: mark for mark, kind, *_ in MEDIA}
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
PARTS = {
    "image": ("image", ("image", "path", "url", "base64")),
    "image_url": ("image", ("image_url",)),
    "input_image": ("image", ("image_url", "image")),
    "video": ("video", ("video", "path", "url")),
    "audio": ("audio", ("audio", "path", "url")),
    "audio_url": ("audio", ("audio_url",)),
    "input_audio": ("audio", ("input_audio",)),
}  # type of a part → what it is, and the keys that may name it


@dataclass
class Conversation:
    """What was read: the turns of the prompt, the last turn where that is an answer, and what parts of turns name.

    `slots[kind]` are the pictures (videos, sounds) of those turns that are written as lists of parts, in order; None
    stands for the next one of those that lie beside the turns.
    """

    turns: list[Turn] = field(default_factory=list)
    answer: str | None = None
    slots: dict[str, list[object]] = field(default_factory=lambda: {kind: [] for _, kind, *_ in MEDIA})
    marked: bool = True  # the form says by marks or parts where a picture stands

    def add(self, role: str, content: object, where: str) -> None:
        """One more turn; `content` is text or a list of parts."""
        self.turns.append({"role": ROLES.get(role.lower(), role), "content": self._text(content, where)})

    def _text(self, content: object, where: str) -> str:
        if isinstance(content, str):
            return _INLINE.sub(self._inline, content)
        if not isinstance(content, list | tuple):
            raise SampleError(f"{where}: expected text or a list of parts; got {told(content)}.")
        return "".join(self._part(part, f"{where}, part {number}") for number, part in enumerate(content, 1))

    def _inline(self, found: re.Match[str]) -> str:
        medium = "image" if found[1] == "img" else found[1]
        self.slots[medium].append(found[2])
        return _MARKS[medium]

    def _part(self, part: object, where: str) -> str:
        if isinstance(part, str):
            return part
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind in ("text", "input_text", "output_text"):
            text = part.get("text") or ""
            if not isinstance(text, str):
                raise SampleError(f"{where}: 'text' must be text; got {told(text)}.")
            return text
        if not isinstance(kind, str) or kind not in PARTS:
            known = ", ".join(("text", *PARTS))
            raise SampleError(f"{where}: a part of type {told(kind)} is not read; use {known}.")
        medium, keys = PARTS[kind]
        self.slots[medium].append(next((part[key] for key in keys if given(part.get(key))), None))
        return _MARKS[medium]

    def cut(self) -> Conversation:
        """Take the last turn as the answer where the assistant said it; everything before it stays the prompt."""
        if self.turns and self.turns[-1]["role"] == "assistant":
            self.answer = self.turns.pop()["content"]
        return self


def conversation(entry: Mapping[str, Any]) -> Conversation:
    """The turns of an entry; see `mode_core.samples.entries.sample_from_entry` for the forms.

    Raises:
        SampleError: no text, or a turn that is none; which one.
    """
    found = Conversation()
    if key := next((key for key in ("system", "system_prompt") if given(entry.get(key))), None):
        found.add("system", entry[key], f"'{key}'")
    key = next((key for key in CHATS if given(entry.get(key))), None)
    if key is None and isinstance(entry.get("prompt"), list):
        key = "prompt"
    if key is not None:
        _chat(found, entry[key], key)
    elif given(entry.get("texts")):
        _pairs(found, entry["texts"])
    elif (asked := next((keys for keys in ASKED if given(entry.get(keys[0]))), None)) is not None:
        _asked(found, entry, asked)
    else:
        found.marked = False
        found.add("user", _question(entry), "the question")
    return found.cut()


def has_text(entry: Mapping[str, Any]) -> bool:
    """Has the entry anything of which turns could be made?"""
    return any(given(entry.get(key)) for key in (*CHATS, "texts", *TEXT_KEYS, *(keys[0] for keys in ASKED)))


def _chat(found: Conversation, turns: object, key: str) -> None:
    """Turns with role and content, or with from and value (ShareGPT); a cell of a table holds them as JSON."""
    turns = listed(turns) if isinstance(turns, str) else turns
    if not isinstance(turns, list | tuple):
        raise SampleError(f"'{key}' must be a list of turns with 'role' and 'content', or 'from' and 'value'.")
    for number, turn in enumerate(turns, 1):
        role = turn.get("role", turn.get("from")) if isinstance(turn, Mapping) else None
        content = turn.get("content", turn.get("value")) if isinstance(turn, Mapping) else None
        if not isinstance(role, str) or not isinstance(content, str | list | tuple):
            names = "'from' and 'value'" if key == "conversations" else "'role' and 'content'"
            raise SampleError(f"'{key}', turn {number}: {names} must both be text.")
        found.add(role, content, f"'{key}', turn {number}")


def _pairs(found: Conversation, pairs: object) -> None:
    """`texts` of the Cauldron: a list of objects with user and assistant."""
    if not isinstance(pairs, list | tuple) or not all(isinstance(pair, Mapping) for pair in pairs):
        raise SampleError("'texts' must be a list of objects with 'user' and 'assistant'.")
    found.marked = False
    for number, pair in enumerate(pairs, 1):
        for role in ("user", "assistant"):
            found.add(role, pair.get(role), f"'texts', turn {number}, '{role}'")


def _asked(found: Conversation, entry: Mapping[str, Any], keys: Sequence[str]) -> None:
    """A question with its answer and the turns before it (`history`: pairs of question and answer)."""
    history = entry.get("history") or []
    if not isinstance(history, list | tuple) or not all(isinstance(p, list | tuple) and len(p) == 2 for p in history):
        raise SampleError("'history' must be a list of pairs, question and answer.")
    for pair in history:
        for role, said in zip(("user", "assistant"), pair, strict=True):
            found.add(role, said, "'history'")
    asked, answered, more = keys
    texts = [entry[asked], *([entry[more]] if given(entry.get(more)) else [])]
    for text in texts:
        if not isinstance(text, str):
            raise SampleError(f"'{asked}' must be text; got {type(text).__name__}.")
    found.add("user", "\n".join(texts), f"'{asked}'")
    if given(entry.get(answered)):
        found.add("assistant", entry[answered], f"'{answered}'")


def _question(entry: Mapping[str, Any]) -> str:
    """The text of an entry in short form; with options the prompt that VLMEvalKit makes of them."""
    key = next((key for key in TEXT_KEYS if given(entry.get(key))), None)
    if key is None:
        raise SampleError(
            f"no text (keys: {sorted(map(str, entry))[:20]}). Give 'text', 'question' or 'prompt', or 'messages'."
        )
    text = entry[key]
    if not isinstance(text, str):
        raise SampleError(f"'{key}' must be text; got {text.words if isinstance(text, Odd) else type(text).__name__}.")
    options = options_of(entry) if key == "question" else {}
    if all(re.search(rf"\b{letter}[.:)]\s*{re.escape(option)}", text) for letter, option in options.items()):
        return text  # without options, or with all of them written in it
    hint = f"Hint: {entry['hint']}\n" if _said(entry.get("hint")) else ""
    listing = "".join(f"{letter}. {option}\n" for letter, option in options.items())
    return f"{hint}Question: {text}\nOptions:\n{listing}Please select the correct answer from the options above. \n"


def options_of(entry: Mapping[str, Any]) -> dict[str, str]:
    """Letter → text of the options to choose from: in columns A, B, … (or `choice_a`, …), or listed (`OPTION_KEYS`).

    Raises:
        SampleError: something that is no list of texts.
    """
    key = next((key for key in OPTION_KEYS if given(entry.get(key))), None)
    if key is None:
        named = {letter: (letter, f"choice_{letter.lower()}", f"option_{letter.lower()}") for letter in LETTERS}
        cells = {letter: next((entry[k] for k in keys if _said(entry.get(k))), None) for letter, keys in named.items()}
        return {letter: str(cell) for letter, cell in cells.items() if cell is not None}
    found = listed(entry[key]) if isinstance(entry[key], str) else entry[key]
    found = list(found.values()) if isinstance(found, Mapping) and set(found) <= set(LETTERS) else found
    if not isinstance(found, list) or not all(isinstance(one, str | int | float) for one in found):
        raise SampleError(f"'{key}' must be a list of texts; got {told(found)}.")
    return dict(zip(LETTERS, map(str, found), strict=False))


def _said(value: object) -> bool:
    """Is there anything in a cell? Some data sets were written with pandas' word for nothing in it."""
    return given(value) and value != "nan"
