"""Which characters of a rendered prompt a person wrote, and which the chat template added.

The template is rendered once more with one unusual character in the place of each written part. What stands between
those characters is the template's own text, and walking along it tells where each part begins and ends; searching for
the parts would find a short one in a role name or in a control token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mode_core.samples import Sample

_FIRST = 0xF0000  # private characters: no text of a person holds them, no template takes them for anything
Span = tuple[int, int]
Render = Callable[[list[dict[str, Any]]], str]


def written_spans(sample: Sample, text: str, render: Render) -> list[Span]:
    """(begin, end) in `text` of everything a person wrote, in order: the parts of the prompt, then the answer.

    `text` is the rendered prompt, with the answer behind it where it has one; `render` turns turns into a prompt. A
    template may strip the ends of a part. A part that a template changes in another way is searched for.
    """
    parts = list(sample.texts)
    pieces = _template_pieces(render, sample, parts)
    spans = _walk(text, parts, pieces, sample.answer or "") if pieces is not None else None
    return spans if spans is not None else _searched(sample, text)


def _template_pieces(render: Render, sample: Sample, parts: list[str]) -> list[str] | None:
    """The template's own text before, between and behind the parts; None where it does not keep them in order."""
    numbers = iter(range(len(parts)))

    def marked(part: dict[str, Any]) -> dict[str, Any]:
        return part | {"text": chr(_FIRST + next(numbers))} if part["type"] == "text" else part

    turns = [turn | {"content": [marked(part) for part in turn["content"]]} for turn in sample.prompt()]
    rest, pieces = render(turns), []
    for number in range(len(parts)):
        before, mark, rest = rest.partition(chr(_FIRST + number))
        if not mark:
            return None
        pieces.append(before)
    return [*pieces, rest]


def _walk(text: str, parts: list[str], pieces: list[str], answer: str) -> list[Span] | None:
    """Spans of the parts where `text` is piece, part, piece, …, piece and perhaps the answer; None where it is not."""
    spans, cursor = [], len(pieces[0])
    if not text.startswith(pieces[0]):
        return None
    for part, after in zip(parts, pieces[1:], strict=True):
        for stands in (part, part.rstrip(), part.lstrip(), part.strip()):
            if text.startswith(stands + after, cursor):
                spans.append(_without_blanks(text, cursor, cursor + len(stands)))
                cursor += len(stands) + len(after)
                break
        else:
            return None
    if cursor == len(text):
        return spans
    return [*spans, (cursor, cursor + len(answer))] if answer and text.startswith(answer, cursor) else None


def _without_blanks(text: str, begin: int, end: int) -> Span:
    """The same span without blanks at its ends: these may be the template's as well as a person's."""
    inside = text[begin:end]
    return begin + len(inside) - len(inside.lstrip()), end - len(inside) + len(inside.rstrip())


def _searched(sample: Sample, text: str) -> list[Span]:
    """Each part where it is first found behind the one before it."""
    spans, cursor = [], 0
    for part in (*sample.texts, *([sample.answer] if sample.answer else [])):
        start = text.find(part.strip(), cursor)
        if start >= 0 and part.strip():
            cursor = start + len(part.strip())
            spans.append((start, cursor))
    return spans
