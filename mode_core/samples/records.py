"""The sample: pictures, turns of text, and optionally the answer and the task it belongs to."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

IMAGE_MARK = "<image>"
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
ROLES = ("system", "user", "assistant")
MAX_PIXELS = 64_000_000  # of one picture
MAX_IMAGE_BYTES = 64_000_000  # of one picture's file
MAX_IMAGES = 64  # of one sample
MAX_TEXT = 200_000  # characters of one sample


class SampleError(ValueError):
    """A sample that cannot be used; the text says which file and line, what is wrong, and what to do."""


@dataclass(frozen=True)
class ImageSource:
    """One picture, read when it is needed: a file, or bytes that were uploaded. `name` is what a person calls it."""

    name: str
    path: Path | None = None
    data: bytes | None = field(default=None, repr=False)

    def read(self) -> bytes:
        """The file's bytes."""
        if self.data is not None:
            return self.data
        try:
            return self.path.read_bytes()
        except OSError as failure:
            raise SampleError(f"{self.name}: the picture cannot be read ({failure.strerror}).") from None

    def load(self) -> Image.Image:
        """The picture in RGB, turned upright as its camera noted; transparent parts on white.

        Raises:
            SampleError: not a picture, cut off, or larger than `MAX_PIXELS`.
        """
        opened = self._open()
        try:
            opened.load()
        except (OSError, SyntaxError, ValueError) as broken:
            raise SampleError(f"{self.name}: the picture is damaged ({broken}); export it again.") from None
        return _upright_rgb(opened)

    def check(self) -> None:
        """Look at the head of the file only: is it a picture of an accepted kind and size?"""
        self._open()

    def _open(self) -> Image.Image:
        source = io.BytesIO(self.data) if self.data is not None else self.path
        try:
            with warnings.catch_warnings():  # Pillow warns of huge pictures; the limit here refuses them
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                opened = Image.open(source, formats=IMAGE_FORMATS)
        except FileNotFoundError:
            raise SampleError(f"There is no picture {self.name}.") from None
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as broken:
            kinds = ", ".join(IMAGE_FORMATS)
            reason = type(broken).__name__ if isinstance(broken, UnidentifiedImageError) else broken
            raise SampleError(f"{self.name} is not a picture that can be read ({reason}); use {kinds}.") from None
        if opened.width * opened.height > MAX_PIXELS:
            raise SampleError(
                f"{self.name} has {opened.width} × {opened.height} pixels; at most {MAX_PIXELS / 1e6:.0f} "
                "million are read. Make it smaller."
            )
        return opened


def _upright_rgb(picture: Image.Image) -> Image.Image:
    from PIL import ImageOps

    picture = ImageOps.exif_transpose(picture)
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture.convert("RGBA"))
    return picture.convert("RGB")


@dataclass(frozen=True, eq=False)
class Sample:
    """Pictures, turns of text (`{"role": "user", "content": "<image>what is this ?"}`), optional answer and task.

    `<image>` in a turn stands where a picture goes, in order; pictures without a mark go in front of the first user
    turn. Without an id the sample is called after the hash of its texts and pictures.

    Frozen; compared and hashed by identity, since turns are dictionaries.

    Raises:
        SampleError: no text, more marks than pictures, an unknown role, or beyond a limit.
    """

    images: tuple[ImageSource, ...]
    messages: tuple[dict[str, str], ...]
    answer: str | None = None
    task: str | None = None
    id: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", tuple(self.images))
        object.__setattr__(self, "messages", tuple(self.messages))
        if not any(text.strip() for text in self.texts):
            raise SampleError("the sample has no text; give a question or an instruction.")
        if strange := [m["role"] for m in self.messages if m["role"] not in ROLES]:
            raise SampleError(f"the role {strange[0]!r} is unknown; use {', '.join(ROLES)}.")
        marks = sum(message["content"].count(IMAGE_MARK) for message in self.messages)
        if marks > len(self.images):
            raise SampleError(f"the text holds {marks} × {IMAGE_MARK}, but there are {len(self.images)} pictures.")
        if len(self.images) > MAX_IMAGES:
            raise SampleError(f"{len(self.images)} pictures in one sample; at most {MAX_IMAGES}.")
        if (length := sum(map(len, self.texts))) > MAX_TEXT:
            raise SampleError(f"the text has {length:,} characters; at most {MAX_TEXT:,}.")
        if "user" not in {message["role"] for message in self.messages}:
            raise SampleError("the sample has no user turn; give one message with role 'user'.")
        if not self.id:
            object.__setattr__(self, "id", self._hash())

    def _hash(self) -> str:
        seal = hashlib.sha256(repr([(m["role"], m["content"]) for m in self.messages]).encode())
        for source in self.images:
            seal.update(hashlib.sha256(source.read()).digest())
        return seal.hexdigest()[:16]

    @property
    def texts(self) -> tuple[str, ...]:
        """Everything that a person wrote, in order, without the image marks."""
        return tuple(part["text"] for turn in self.prompt() for part in turn["content"] if part["type"] == "text")

    @property
    def text(self) -> str:
        """The sample's text in one string, as shown to a person."""
        return "\n".join(text.strip() for text in self.texts)

    def prompt(self) -> list[dict[str, Any]]:
        """The turns in the form of transformers' chat templates; each picture is `{"type": "image"}` in its place."""
        unmarked = len(self.images) - sum(m["content"].count(IMAGE_MARK) for m in self.messages)
        turns = []
        for message in self.messages:
            content: list[dict[str, str]] = []
            if message["role"] == "user" and unmarked > 0:
                content += [{"type": "image"}] * unmarked
                unmarked = 0
            for number, text in enumerate(message["content"].split(IMAGE_MARK)):
                content += [{"type": "image"}] if number else []
                content += [{"type": "text", "text": text}] if text.strip() else []
            turns.append({"role": message["role"], "content": content})
        return turns


def samples_digest(samples: Sequence[Sample]) -> str:
    """Hash of all samples' ids, in order: 16 hexadecimal digits."""
    return hashlib.sha256("\n".join(sample.id for sample in samples).encode()).hexdigest()[:16]
