"""The sample: pictures, videos, sounds, turns of text, and optionally the answer and the task it belongs to."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mode_core.modalities import AUDIO_TOKENS, TEXT_TOKENS, VISION_TOKENS
from mode_core.samples.images import (
    IMAGE_FORMATS,
    IMAGE_SUFFIXES,
    MAX_IMAGE_BYTES,
    MAX_PIXELS,
    ImageSource,
    SampleError,
)
from mode_core.samples.sounds import AudioSource
from mode_core.samples.videos import Frame, VideoSource

__all__ = [
    "AUDIO_MARK",
    "IMAGE_FORMATS",
    "IMAGE_MARK",
    "IMAGE_SUFFIXES",
    "MAX_IMAGE_BYTES",
    "MAX_PIXELS",
    "MEDIA",
    "VIDEO_MARK",
    "AudioSource",
    "ImageSource",
    "Sample",
    "SampleError",
    "VideoSource",
    "samples_digest",
]

IMAGE_MARK, VIDEO_MARK, AUDIO_MARK = "<image>", "<video>", "<audio>"
MEDIA = (  # mark, kind, field of a sample, what they are called, most of one sample
    (IMAGE_MARK, "image", "images", "pictures", 64),
    (VIDEO_MARK, "video", "videos", "videos", 8),
    (AUDIO_MARK, "audio", "audio", "sounds", 8),
)
ROLES = ("system", "user", "assistant")
MAX_TEXT = 200_000  # characters of one sample


@dataclass(frozen=True, eq=False)
class Sample:
    """Pictures, videos, sounds, turns of text (`{"role": "user", "content": "<image>what is this ?"}`), optional
    answer and task.

    `<image>` in a turn stands where a picture goes, in order, `<video>` where a video and `<audio>` where a sound goes.
    Without any mark they go in front of the first user turn, pictures first, then videos; where there are no pictures,
    `<image>` is text like any other. Without an id the sample is called after the hash of its texts and media.
    `answer` is the expected one;
    `other_answers` are as right.

    Frozen; compared and hashed by identity, since turns are dictionaries.

    Raises:
        SampleError: no text, another number of marks than of pictures, videos or sounds, an unknown role, half a
        character,
            or beyond a limit.
    """

    images: tuple[ImageSource, ...]
    messages: tuple[dict[str, str], ...]
    answer: str | None = None
    task: str | None = None
    id: str = ""
    videos: tuple[VideoSource, ...] = ()
    other_answers: tuple[str, ...] = ()
    audio: tuple[AudioSource, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", tuple(self.images))
        object.__setattr__(self, "messages", tuple(self.messages))
        object.__setattr__(self, "videos", tuple(self.videos))
        object.__setattr__(self, "audio", tuple(self.audio))
        _check_characters((self.id, self.task, *self.answers, *(m["content"] for m in self.messages)))
        if not any(text.strip() for text in self.texts):
            raise SampleError("the sample has no text; give a question or an instruction.")
        if strange := [m["role"] for m in self.messages if m["role"] not in ROLES]:
            raise SampleError(f"the role {strange[0]!r} is unknown; use {', '.join(ROLES)}.")
        for mark, _, field, called, most in MEDIA:
            self._check_media(mark, called, len(getattr(self, field)), most)
        if (length := sum(map(len, self.texts))) > MAX_TEXT:
            raise SampleError(f"the text has {length:,} characters; at most {MAX_TEXT:,}.")
        if "user" not in {message["role"] for message in self.messages}:
            raise SampleError("the sample has no user turn; give one message with role 'user'.")
        if not self.id:
            object.__setattr__(self, "id", self._hash())

    def _check_media(self, mark: str, called: str, given: int, most: int) -> None:
        marks = self._marks(mark)
        if marks not in (0, given):
            raise SampleError(
                f"the text holds {marks} × {mark}, but there are {given} {called}. Write one mark where each of them "
                "goes, or none (then they stand in front)."
            )
        if given > most:
            raise SampleError(f"{given} {called} in one sample; at most {most}.")

    def _marks(self, mark: str) -> int:
        """Marks that stand for a medium: none where there is no such medium."""
        there = next(getattr(self, field) for own, _, field, *_ in MEDIA if own == mark)
        return sum(message["content"].count(mark) for message in self.messages) if there else 0

    def _hash(self) -> str:
        seal = hashlib.sha256(repr([(m["role"], m["content"]) for m in self.messages]).encode())
        for source in self.images:
            seal.update(hashlib.sha256(source.read()).digest())
        for video in self.videos:
            seal.update(video.digest())
        for sound in self.audio:
            seal.update(sound.digest())
        return seal.hexdigest()[:16]

    @property
    def answers(self) -> tuple[str, ...]:
        """All right answers, the expected one first; none where there is none."""
        return () if self.answer is None else (self.answer, *self.other_answers)

    @property
    def texts(self) -> tuple[str, ...]:
        """Everything that was written, in order, without the marks."""
        return tuple(part["text"] for turn in self.prompt() for part in turn["content"] if part["type"] == "text")

    @property
    def text(self) -> str:
        """The sample's text in one string, as shown to a person."""
        return "\n".join(text.strip() for text in self.texts)

    def prompt(self) -> list[dict[str, Any]]:
        """The turns in the form of transformers' chat templates; media are `{"type": "image"}`, `{"type": "video"}`
        and `{"type": "audio"}` in their places."""
        first: list[str] = []
        for mark, kind, field, *_ in MEDIA:
            first += [kind] * (len(getattr(self, field)) - self._marks(mark))
        marks = {mark: kind for mark, kind, field, *_ in MEDIA if getattr(self, field)}
        between = re.compile(f"({'|'.join(marks)})") if marks else None
        turns = []
        for message in self.messages:
            content: list[dict[str, str]] = []
            if message["role"] == "user":
                content, first = [{"type": kind} for kind in first], []
            for part in between.split(message["content"]) if between else [message["content"]]:
                if part in marks:
                    content.append({"type": marks[part]})
                elif part.strip():
                    content.append({"type": "text", "text": part})
            turns.append({"role": message["role"], "content": content})
        return turns

    @property
    def media(self) -> tuple[ImageSource | VideoSource, ...]:
        """Pictures and videos in the order in which they stand in the text."""
        sources = {"image": iter(self.images), "video": iter(self.videos)}
        kinds = (part["type"] for turn in self.prompt() for part in turn["content"])
        return tuple(next(sources[kind]) for kind in kinds if kind in sources)

    @property
    def modality(self) -> str:
        """ "audio" where it has a sound, else "vision" where it has a picture or a video, else "text"."""
        if self.audio:
            return AUDIO_TOKENS
        return VISION_TOKENS if self.images or self.videos else TEXT_TOKENS

    def pictures(self, frames: Sequence[tuple[int, int | None]] | None = None) -> tuple[ImageSource | Frame, ...]:
        """What can be shown: for each (medium, frame) of `frames` the picture, or that frame of the video; without
        `frames` every picture and each video's first frame. All have `.name` and `.load()`."""
        media = self.media
        if frames is None:
            frames = [(number, 0 if isinstance(one, VideoSource) else None) for number, one in enumerate(media)]
        return tuple(media[number] if frame is None else media[number].frame(frame) for number, frame in frames)


def _check_characters(texts: Sequence[str | None]) -> None:
    for text in texts:
        try:
            (text or "").encode()
        except UnicodeEncodeError as broken:
            half = text[broken.start]
            raise SampleError(f"the text holds half a character ({half!r}, a lone surrogate); take it out.") from None


def samples_digest(samples: Sequence[Sample]) -> str:
    """Hash of all samples' ids, in order: 16 hexadecimal digits."""
    return hashlib.sha256("\n".join(sample.id for sample in samples).encode()).hexdigest()[:16]
