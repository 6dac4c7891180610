"""Pictures: read when they are needed, from a file or from bytes, within limits."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from mode_core.errors import ModeError
from mode_core.files import LFS_POINTER
from mode_core.samples.rgb import upright_rgb

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
FILM_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
LONE_SUFFIXES = (*IMAGE_SUFFIXES, *AUDIO_SUFFIXES, *FILM_SUFFIXES)  # of what makes a sample with a question beside it
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, KeyError, ArithmeticError, struct.error)
MAX_PIXELS = 64_000_000  # of one picture
MAX_IMAGE_BYTES = 64_000_000  # of one picture's file


POINTER_WORDS = "a Git-LFS pointer, not the file itself; run 'git lfs pull' where it was cloned, or download it anew."


class SampleError(ModeError):
    """A sample that cannot be used; the text says which file and line, what is wrong, and what to do."""


def medium(name: str) -> str:
    """What a file is called in messages, by its name: a sound, a film or a picture."""
    if name.lower().endswith(AUDIO_SUFFIXES) or name.startswith("sound "):
        return "sound"
    return "film" if name.lower().endswith(FILM_SUFFIXES) else "picture"


@dataclass(frozen=True)
class ImageSource:
    """One picture (or the file of a sound or a film), read when it is needed: a file, bytes that were uploaded, or
    bytes that `fetch` gets out of a table. `name` is what a person calls it."""

    name: str
    path: Path | None = None
    data: bytes | None = field(default=None, repr=False)
    fetch: Callable[[], bytes] | None = field(default=None, repr=False, compare=False)

    def read(self) -> bytes:
        """The file's bytes."""
        if self.data is not None:
            return self.data
        try:
            found = self.fetch() if self.fetch else self.path.read_bytes()
        except OSError as failure:
            reason = failure.strerror or type(failure).__name__
            raise SampleError(f"{self.name}: the {medium(self.name)} cannot be read ({reason}).") from None
        if len(found) > MAX_IMAGE_BYTES:
            raise SampleError(f"{self.name} has more than {MAX_IMAGE_BYTES / 1e6:.0f} MB. Make it smaller.")
        return found

    def load(self) -> Image.Image:
        """The picture in RGB with 8 bits; see `upright_rgb`.

        Raises:
            SampleError: not a picture, cut off, or larger than `MAX_PIXELS`.
        """
        opened = self.opened()
        try:
            opened.load()
        except DAMAGE as broken:
            raise SampleError(f"{self.name}: the picture is damaged ({broken}); export it again.") from None
        try:
            return upright_rgb(opened)
        except DAMAGE as strange:
            raise SampleError(
                f"{self.name}: a picture of the kind {opened.mode} cannot be turned into RGB ({strange}); save it as "
                "an ordinary PNG or JPEG."
            ) from None

    def check(self) -> None:
        """Look at the head of the file only: is it a picture of an accepted kind and size?"""
        self.opened()

    def opened(self) -> Image.Image:
        """The file as Pillow opens it, nothing decoded yet; limits are checked. Errors as in `load`."""
        source = self.path if self.path is not None else io.BytesIO(self.read())
        try:
            with warnings.catch_warnings():  # Pillow warns of huge pictures; the limit here refuses them
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                opened = Image.open(source, formats=IMAGE_FORMATS)
        except FileNotFoundError:
            raise SampleError(f"There is no picture {self.name}.") from None
        except (*DAMAGE, Image.DecompressionBombError) as broken:
            if self.read().startswith(LFS_POINTER):
                raise SampleError(f"{self.name} is {POINTER_WORDS}") from None
            kinds = ", ".join(IMAGE_FORMATS)
            reason = type(broken).__name__ if isinstance(broken, UnidentifiedImageError) else broken
            raise SampleError(f"{self.name} is not a picture that can be read ({reason}); use {kinds}.") from None
        if opened.width * opened.height > MAX_PIXELS:
            raise SampleError(
                f"{self.name} has {opened.width} × {opened.height} pixels; at most {MAX_PIXELS / 1e6:.0f} "
                "million are read. Make it smaller."
            )
        return opened


def thumbnail(source: Any, side: int) -> Image.Image:
    """What `source.load()` gives (a picture, a frame), of at most `side` pixels a side; never enlarged.

    Raises:
        SampleError: as its `load`.
    """
    picture = source.load()
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return picture
