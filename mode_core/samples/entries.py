"""One entry of a table (a JSON object, or a row) → one sample. All accepted keys are named here and in `turns`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mode_core.samples.images import FILM_SUFFIXES, SampleError
from mode_core.samples.pictures import FindImage, picture
from mode_core.samples.records import IMAGE_MARK, MEDIA, VIDEO_MARK, AudioSource, Sample, VideoSource
from mode_core.samples.turns import CHATS, OPTION_KEYS, PARTS, Conversation, conversation, has_text, options_of
from mode_core.samples.values import Embedded, given, plain_text, told
from mode_core.samples.without_samples import foreign

IMAGE_KEYS = (
    "decoded_image",
    "images",
    "image",
    "image_path",
    "image_paths",
    "file_name",
    "file_names",
    "img",
    "image_url",
)
VIDEO_KEYS = ("videos", "video")
AUDIO_KEYS = ("audios", "audio")
ID_KEYS = ("id", "question_id", "index")
ANSWER_KEYS = ("answer", "multiple_choice_answer", "answers")  # all that is given counts, the first one first
OTHER_ANSWERS = ("response", "output", "completion", "label")  # where none of these is there
MOST_ANSWERS = 100
OTHER_FILMS = (".mpg", ".mpeg", ".wmv", ".flv")  # told to be films, and refused
GROUNDING = ("<ref-object>", "<bbox>")  # of ms-swift
_COLUMN, _MARK = re.compile(r"image_(\d+)"), re.compile(r"<image[ _](\d+)>")  # MMMU: pictures with numbers
_HIDDEN = re.compile(r"(image|img|picture|photo|video)s?[_ ]?(id|path|file|name|url|bytes|base64|b64|data)?s?[_ ]?\d*")

Stratum = tuple[str, bool]  # task, and whether there is a picture, a video or a sound


def sample_from_entry(entry: object, find: FindImage) -> Sample:
    """A sample from one JSON object or row of a table.

    Pictures: one or a list, under any of `IMAGE_KEYS`, or inside the turns. Videos: `videos` (a list) or `video`, each
    an animated GIF, WebP or PNG, a film, a list of pictures, or `{"frames": [pictures], "fps": 2}` or
    `{"path": film, "fps": 2}`. Sounds: `audios` or `audio`, one or a list.

    Text: `messages` (role and content) or `conversations` (ShareGPT: from and value), contents as text or as lists of
    parts; `query` and `response`, or `instruction`, `input` and `output`; `texts` (user and assistant); or one of
    `text`, `question`, `prompt`; a question with options (A, B, …, or a list `options` or `choices`) is a choice
    between them. `system` comes before all. Every turn up to the last question is prompt; what the assistant says last
    is the answer.

    Optional: `id`, `answer` or `answers` (any of a list is right), `task` or `category`. Chats without pictures need
    not say so; a question in short form does: `"images": []` or null.

    Raises:
        SampleError: what is missing or wrong, and what to do.
    """
    if not isinstance(entry, Mapping):
        raise SampleError(f"expected a JSON object with keys; got {type(entry).__name__}.")
    if not has_text(entry) and (known := foreign(entry)):
        raise SampleError(known)
    talk = conversation(entry)
    _check_others(entry, talk)
    named = _named(entry, talk)
    images = tuple(picture(value, find, f"picture {n}") for n, value in enumerate(_filled(named, talk, "image"), 1))
    videos = _videos(entry, talk, find)
    audio = _sounds(entry, talk, find)
    _check_answer(talk, images, videos, audio)
    for source in (*images, *videos, *audio):
        source.check()
    answers = _answers(entry) or ([talk.answer] if talk.answer else [])
    return Sample(
        id=next((name for key in ID_KEYS if (name := plain_text(entry.get(key), key))), ""),
        images=images,
        messages=tuple(talk.turns),
        answer=answers[0] if answers else None,
        task=_task(entry),
        videos=videos,
        other_answers=tuple(answers[1:]),
        audio=audio,
    )


def _check_others(entry: Mapping[str, Any], talk: Conversation) -> None:
    """Refuse what stands for something that is not read here, so that it is not asked about without it."""
    marks = [mark for mark in GROUNDING if any(mark in turn["content"] for turn in talk.turns)]
    if given(entry.get("objects")) and marks:
        raise SampleError(f"{marks[0]} stands for something in 'objects', which is not read; write out what it means.")


def stratum(entry: object) -> Stratum:
    """What an entry counts as where samples are drawn evenly; cheap, and never an error."""
    if not isinstance(entry, Mapping):
        return "", False
    try:
        task = _task(entry)
    except SampleError:
        task = None
    beside = any(given(entry.get(key)) for key in (*IMAGE_KEYS, *VIDEO_KEYS, *AUDIO_KEYS)) or bool(_numbered(entry))
    return task or "", beside or _parts_with_media(entry)


def _parts_with_media(entry: Mapping[str, Any]) -> bool:
    turns = next((entry[key] for key in CHATS if given(entry.get(key))), ())
    contents = [turn.get("content") for turn in turns if isinstance(turn, Mapping)] if isinstance(turns, list) else []
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return any(isinstance(part, Mapping) and part.get("type") in tuple(PARTS) for part in parts)


def _task(entry: Mapping[str, Any]) -> str | None:
    category = entry.get("category")
    return plain_text(entry.get("task"), "task") or (category if isinstance(category, str) and category else None)


def _named(entry: Mapping[str, Any], talk: Conversation) -> list[object]:
    """The pictures that lie beside the turns."""
    key = next((key for key in IMAGE_KEYS if given(entry.get(key))), None)
    if key is None and not (value := _numbered(entry)):
        _check_none(entry, talk)
        return []
    value = entry[key] if key else value
    values = [one for one in value if given(one)] if isinstance(value, list | tuple) else [value]
    if strange := [v for v in values if not isinstance(v, str | bytes | bytearray | Mapping | Embedded)]:
        raise SampleError(f"'{key or 'image_1'}' must be a path or a list of paths; got {told(strange[0])}.")
    return _in_order_of_marks(values, talk)


def _numbered(entry: Mapping[str, Any]) -> list[object]:
    """What is given as `image_1`, `image_2`, … (MMMU), in the order of the numbers."""
    found = {int(match[1]): entry[key] for key in entry if (match := _COLUMN.fullmatch(str(key))) and given(entry[key])}
    return [found[number] for number in sorted(found)]


def _in_order_of_marks(values: list[object], talk: Conversation) -> list[object]:
    """The pictures as marks with numbers name them (`<image 2>`), which become plain ones; all of them without such."""
    numbers = [int(number) for turn in talk.turns for number in _MARK.findall(turn["content"])]
    if not numbers or any(IMAGE_MARK in turn["content"] for turn in talk.turns):
        return values
    if set(numbers) != set(range(1, len(values) + 1)):
        raise SampleError(
            f"the text's marks with numbers are <image {'>, <image '.join(map(str, sorted(set(numbers))))}>, but there "
            f"are {len(values)} pictures; every picture needs its mark."
        )
    for turn in talk.turns:
        turn["content"] = _MARK.sub(IMAGE_MARK, turn["content"])
    return [values[number - 1] for number in numbers]


def _check_none(entry: Mapping[str, Any], talk: Conversation) -> None:
    """Refuse an entry that seems to have a picture under a name that is not read."""
    if any(talk.slots.values()) or any(given(entry.get(key)) for key in (*VIDEO_KEYS, *AUDIO_KEYS)):
        return
    hidden = next((key for key in entry if _HIDDEN.fullmatch(str(key).lower()) and given(entry[key])), None)
    if hidden is not None:
        raise SampleError(
            f"no 'image', but '{hidden}', which is not read: give the picture's path under 'image'"
            + (" (for COCO the file's name, such as train2017/000000000042.jpg)." if "id" in hidden.lower() else ".")
        )
    if not talk.marked and not any(key in entry for key in (*IMAGE_KEYS, *VIDEO_KEYS, *AUDIO_KEYS)):
        raise SampleError(
            f"no 'image' (keys: {sorted(map(str, entry))[:20]}). Give an image path, or drop the line; "
            'a sample without pictures says "images": [].'
        )


def _filled(beside: list[object], talk: Conversation, kind: str) -> list[object]:
    """The media in their order: those that parts of turns name, and those beside them where a part names none."""
    slots = talk.slots[kind]
    if not slots or (None not in slots and slots == beside):
        return slots or beside
    empty = slots.count(None)
    if empty != len(beside):
        raise SampleError(
            f"the turns have {empty} parts of type '{kind}' without a path, but {len(beside)} lie beside."
        )
    left = iter(beside)
    return [next(left) if slot is None else slot for slot in slots]


def _check_answer(talk: Conversation, *media: tuple[object, ...]) -> None:
    marks = [mark for (mark, *_), there in zip(MEDIA, media, strict=True) if there]
    if held := [mark for mark in marks if mark in (talk.answer or "")]:
        raise SampleError(f"the last answer holds {held[0]}; only prompts with pictures are read. Drop the line.")


def _answers(entry: Mapping[str, Any]) -> list[str]:
    """All right answers, each once."""
    keys = [key for key in ANSWER_KEYS if given(entry.get(key))]
    keys = keys or [key for key in OTHER_ANSWERS if given(entry.get(key))][:1]
    answers = [text for key in keys for text in _answer_texts(entry[key], key)]
    if answers and given(entry.get("question")) and any(given(entry.get(key)) for key in OPTION_KEYS):
        answers = _chosen(answers, options_of(entry))
    return list(dict.fromkeys(answers))[:MOST_ANSWERS]


def _chosen(answers: list[str], options: Mapping[str, str]) -> list[str]:
    """Where an answer names an option, by its number from 0 on (ScienceQA) or its text, letter and text are right."""
    texts = list(options.values())
    if texts and answers[0].isdecimal() and answers[0] not in texts:
        if int(answers[0]) >= len(texts):
            raise SampleError(f"'answer' is {answers[0]}, but there are {len(texts)} options (the first one is 0).")
        answers = [texts[int(answers[0])], *answers[1:]]
    named = {text: letter for letter, text in options.items()}
    return [text for answer in answers for text in ((named[answer], answer) if answer in named else (answer,))]


def _answer_texts(value: object, key: str) -> list[str]:
    if isinstance(value, list | tuple):
        return [text for one in value[:MOST_ANSWERS] for text in _answer_texts(one, key) if not isinstance(one, list)]
    if isinstance(value, Mapping):
        inside = next((k for k in ("answer", "text", "content") if given(value.get(k))), None)
        if inside is None:
            raise SampleError(f"'{key}' holds an object without 'answer'; give text, or a list of texts.")
        return _answer_texts(value[inside], key)
    if isinstance(value, bool):
        return [str(value)]
    return [text] if (text := plain_text(value, key)) else []


def _videos(entry: Mapping[str, Any], talk: Conversation, find: FindImage) -> tuple[VideoSource, ...]:
    key = next((key for key in VIDEO_KEYS if given(entry.get(key))), None)
    value = entry[key] if key else []
    many = list(value) if key != "video" and isinstance(value, list) else [value]
    found = _filled(many, talk, "video")
    _move_marks(talk, entry, len(found))
    return tuple(_video(one, f"'{key or 'video'}'", number, find) for number, one in enumerate(found, 1))


def _sounds(entry: Mapping[str, Any], talk: Conversation, find: FindImage) -> tuple[AudioSource, ...]:
    value = next((entry[key] for key in AUDIO_KEYS if given(entry.get(key))), [])
    found = _filled(list(value) if isinstance(value, list | tuple) else [value], talk, "audio")
    return tuple(AudioSource(picture(one, find, f"sound {number}")) for number, one in enumerate(found, 1))


def _move_marks(talk: Conversation, entry: Mapping[str, Any], videos: int) -> None:
    """LLaVA-Video writes <image> where the video goes: without any picture these are the videos' marks."""
    pictures = talk.slots["image"] or any(given(entry.get(key)) for key in IMAGE_KEYS)
    texts = [turn["content"] for turn in talk.turns]
    marks = sum(text.count(IMAGE_MARK) for text in texts)
    if videos and marks == videos and not pictures and not any(VIDEO_MARK in text for text in texts):
        for turn in talk.turns:
            turn["content"] = turn["content"].replace(IMAGE_MARK, VIDEO_MARK)


def _video(value: object, key: str, number: int, find: FindImage) -> VideoSource:
    """One video from its path, its list of frames, or an object with both."""
    called = f"{key}, video {number}"
    frames, fps = (value.get("frames"), value.get("fps")) if isinstance(value, Mapping) else (value, None)
    if fps is not None and (isinstance(fps, bool) or not isinstance(fps, int | float)):
        raise SampleError(f"{called}: 'fps' must be a number; got {told(fps)}.")
    path = value.get("path") if isinstance(value, Mapping) else value
    if isinstance(path, str):
        source = picture(path, find, called)
        if path.lower().endswith((*FILM_SUFFIXES, *OTHER_FILMS)):
            return VideoSource(source.name, film=source, fps=fps)
        return VideoSource(source.name, animation=source, fps=fps)
    if not isinstance(frames, list) or not frames or not all(isinstance(name, str) for name in frames):
        raise SampleError(
            f"{called}: expected a path, a list of pictures, {{'frames': [...], 'fps': 2}} or {{'path': film}}; got "
            f"{told(value)}."
        )
    return VideoSource(
        f"video {number}", tuple(picture(name, find, f"a frame of {called}") for name in frames), fps=fps
    )
