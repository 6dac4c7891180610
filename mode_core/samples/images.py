"""Pictures: read when they are needed, from a file or from bytes, within limits."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from mode_core.errors import ModeError

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MAX_PIXELS = 64_000_000  # of one picture
MAX_IMAGE_BYTES = 64_000_000  # of one picture's file


class SampleError(ModeError):
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
        opened = self.opened()
        try:
            opened.load()
        except (OSError, SyntaxError, ValueError, IndexError) as broken:
            raise SampleError(f"{self.name}: the picture is damaged ({broken}); export it again.") from None
        return upright_rgb(opened)

    def check(self) -> None:
        """Look at the head of the file only: is it a picture of an accepted kind and size?"""
        self.opened()

    def opened(self) -> Image.Image:
        """The file as Pillow opens it, nothing decoded yet; limits are checked. Errors as in `load`."""
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


def upright_rgb(picture: Image.Image) -> Image.Image:
    """A picture in RGB, turned upright as its camera noted; transparent parts on white."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture.convert("RGBA"))
    return picture.convert("RGB")
