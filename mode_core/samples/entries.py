"""One entry of a table (a JSON object, or a row of a CSV) → one sample. All accepted keys are named here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mode_core.samples.records import ImageSource, Sample, SampleError, VideoSource
from mode_core.samples.videos import FILM_SUFFIXES

FindImage = Callable[[str], ImageSource]

IMAGE_KEYS = ("images", "image")
VIDEO_KEYS = ("videos", "video")
TEXT_KEYS = ("text", "question", "prompt")
SHAREGPT_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


def sample_from_entry(entry: object, find: FindImage) -> Sample:
    """A sample from one JSON object or CSV row.

    Pictures: `images` (a list) or `image`. Videos: `videos` (a list) or `video`, each an animated GIF, WebP or PNG, a
    list of pictures, or `{"frames": [pictures], "fps": 2}`. Text: `messages` (role and content), `conversations`
    (ShareGPT: from and value; turns from the last answer on are left out, as a prompt ends with a person), or one of
    `text`, `question`, `prompt`. Optional: `id`, `answer`, `task`. A sample without pictures and videos says so:
    `"images": []`.

    Raises:
        SampleError: what is missing or wrong, and what to do.
    """
    if not isinstance(entry, Mapping):
        raise SampleError(f"expected a JSON object with keys; got {type(entry).__name__}.")
    messages, answer = _messages(entry)
    videos = _videos(entry, find)
    for source in (*(images := tuple(find(name) for name in _image_names(entry))), *videos):
        source.check()
    given = entry.get("answer")
    return Sample(
        id=_text_or_none(entry.get("id")) or "",
        images=images,
        messages=messages,
        answer=_text_or_none(answer if given in (None, "") else given),
        task=_text_or_none(entry.get("task")),
        videos=videos,
    )


def _image_names(entry: Mapping[str, Any]) -> list[str]:
    key = next((key for key in IMAGE_KEYS if entry.get(key) is not None), None)
    if key is None and any(entry.get(key) for key in VIDEO_KEYS):
        return []
    if key is None:
        raise SampleError(
            f"no 'image' (keys: {sorted(map(str, entry))}). Give an image path, or drop the line; "
            'a sample without pictures says "images": [].'
        )
    value = entry[key]
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise SampleError(f"'{key}' must be a path or a list of paths; got {value!r:.80}.")
    return [name for name in names if name]


def _videos(entry: Mapping[str, Any], find: FindImage) -> tuple[VideoSource, ...]:
    key = next((key for key in VIDEO_KEYS if entry.get(key)), None)
    if key is None:
        return ()
    value = entry[key]
    many = value if key == "videos" and isinstance(value, list) else [value]
    return tuple(_video(one, f"'{key}'", number, find) for number, one in enumerate(many, 1))


def _video(value: object, key: str, number: int, find: FindImage) -> VideoSource:
    """One video from its path, its list of frames, or an object with both."""
    if isinstance(value, str):
        if value.lower().endswith(FILM_SUFFIXES):
            raise SampleError(
                f"the video {value!r} is a film, which is not read. Give its frames as a list of pictures, or an "
                "animated GIF or WebP."
            )
        return VideoSource(value, animation=find(value))
    frames, fps = (value.get("frames"), value.get("fps")) if isinstance(value, Mapping) else (value, None)
    if not isinstance(frames, list) or not frames or not all(isinstance(name, str) for name in frames):
        raise SampleError(
            f"{key}, video {number}: expected a path, a list of pictures, or {{'frames': [...], 'fps': 2}}; "
            f"got {value!r:.80}."
        )
    if fps is not None and (isinstance(fps, bool) or not isinstance(fps, int | float)):
        raise SampleError(f"{key}, video {number}: 'fps' must be a number; got {fps!r:.20}.")
    return VideoSource(f"video {number}", tuple(find(name) for name in frames), fps=fps)


def _messages(entry: Mapping[str, Any]) -> tuple[tuple[dict[str, str], ...], str | None]:
    """The turns of the prompt, and the answer where the conversation holds one."""
    if "messages" in entry:
        return _turns(entry["messages"], "messages", "role", "content", {}), None
    if "conversations" in entry:
        turns = _turns(entry["conversations"], "conversations", "from", "value", SHAREGPT_ROLES)
        cut = next((n for n, turn in enumerate(turns) if turn["role"] == "assistant"), len(turns))
        return turns[:cut], turns[cut]["content"] if cut < len(turns) else None
    key = next((key for key in TEXT_KEYS if entry.get(key)), None)
    if key is None:
        raise SampleError(
            f"no text (keys: {sorted(map(str, entry))}). Give 'text', 'question' or 'prompt', or 'messages'."
        )
    if not isinstance(entry[key], str):
        raise SampleError(f"'{key}' must be text; got {type(entry[key]).__name__}.")
    return ({"role": "user", "content": entry[key]},), None


def _turns(value: object, key: str, role: str, content: str, roles: Mapping[str, str]) -> tuple[dict[str, str], ...]:
    if not isinstance(value, list) or not value:
        raise SampleError(f"'{key}' must be a list of turns with '{role}' and '{content}'.")
    turns = []
    for number, turn in enumerate(value, 1):
        if not isinstance(turn, Mapping) or not all(isinstance(turn.get(k), str) for k in (role, content)):
            raise SampleError(f"'{key}', turn {number}: '{role}' and '{content}' must both be text.")
        turns.append({"role": roles.get(turn[role], turn[role]), "content": turn[content]})
    return tuple(turns)


def _text_or_none(value: object) -> str | None:
    return None if value is None or value == "" else str(value)
