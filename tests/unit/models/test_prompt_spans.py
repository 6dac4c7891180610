"""Where the written parts stand: short words that also occur in roles and control tokens, templates that strip."""

import pytest

from mode_core.models.prompt_spans import written_spans
from mode_core.samples import Sample


def plain(turns):
    """<|vision_start|> holds "is", "user" and "assistant" hold "us" and "a"."""
    parts = {"image": "<|vision_start|><|vision_end|>"}
    said = ("".join(parts.get(p["type"], p.get("text", "")) for p in t["content"]) for t in turns)
    return "".join(f"<|{t['role']}|>{words}\n" for t, words in zip(turns, said, strict=True)) + "<|assistant|>"


def stripping(turns):
    return plain([t | {"content": [p | {"text": p.get("text", "").strip()} for p in t["content"]]} for t in turns])


def shouting(turns):
    return plain([t | {"content": [p | {"text": p.get("text", "").upper()} for p in t["content"]]} for t in turns])


TURNS = (
    {"role": "system", "content": "a"},
    {"role": "user", "content": "is "},
    {"role": "assistant", "content": "us"},
    {"role": "user", "content": " is it "},
)


@pytest.mark.parametrize("render", [plain, stripping])
@pytest.mark.parametrize("answer", [None, "is"])
def test_short_words_are_where_they_stand(render, answer):
    sample = Sample((), TURNS, answer, id="x")
    text = render(sample.prompt())
    if answer:
        text += answer + "<|end|>"
    spans = written_spans(sample, text, render)
    assert [text[begin:end] for begin, end in spans] == ["a", "is", "us", "is it", *([answer] if answer else [])]
    assert all(text[begin - 1] in ">\n " for begin, _ in spans) and sorted(spans) == spans


def test_without_the_answer_in_the_text_there_is_no_span_for_it():
    sample = Sample((), TURNS[1:2], "is", id="x")
    assert len(written_spans(sample, plain(sample.prompt()), plain)) == 1


def test_parts_that_a_template_changes_are_searched_for():
    sample = Sample((), ({"role": "user", "content": "WHAT"},), id="x")
    text = shouting(sample.prompt())
    assert [text[slice(*span)] for span in written_spans(sample, text, lambda turns: "nothing of it")] == ["WHAT"]
    lower = Sample((), ({"role": "user", "content": "what"},), id="x")
    assert written_spans(lower, shouting(lower.prompt()), shouting) == []
