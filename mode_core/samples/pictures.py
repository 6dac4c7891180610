"""How a picture is named in an entry: a path, a file:// address, a data URI, base64, bytes, or an object of these."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from urllib.parse import unquote, urlsplit

from mode_core.samples.images import MAX_IMAGE_BYTES, ImageSource, SampleError
from mode_core.samples.values import Embedded, given, told

FindImage = Callable[[str], ImageSource]

INSIDE = (
    "bytes",
    "base64",
    "data",
    "image",
    "image_url",
    "audio",
    "path",
    "url",
)  # keys of an object that holds one picture
LONGEST_PATH = 4096  # what is longer and looks like base64 is no path
SHORT_BASE64 = 64  # characters from which the usual beginnings of pictures count as base64
BEGINNINGS = (
    "iVBORw0KGgo",
    "/9j/",
    "R0lGOD",
    "UklGR",
    "SUkq",
    "TU0A",
    "Qk",
    "ZkxhQ",
)  # PNG, JPEG, GIF, WebP and WAV, TIFF, BMP, FLAC
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_BASE64 = re.compile(r"[A-Za-z0-9+/\-_\s]+=*\s*")


def picture(value: object, find: FindImage, called: str) -> ImageSource:
    """One picture of an entry; `find` looks up a path, `called` is its name where it has none.

    Raises:
        SampleError: an address on the web, base64 that is none, or something that names no picture.
    """
    if isinstance(value, Embedded):
        return _embedded(value, find, called)
    if isinstance(value, bytes | bytearray):
        return _within(ImageSource(called, data=bytes(value)))
    if isinstance(value, Mapping):
        key = next((key for key in INSIDE if given(value.get(key))), None)
        if key is None:
            raise SampleError(f"{called} is an object without {', '.join(INSIDE[:-1])} or {INSIDE[-1]}; give a path.")
        return picture(value[key], find, called)
    if not isinstance(value, str):
        raise SampleError(f"{called} must be a path; got {told(value)}.")
    if value.startswith("data:"):
        return _within(ImageSource(called, data=_data_uri(value, called)))
    if (scheme := _SCHEME.match(value)) is not None:
        return find(_local(value, scheme[1].lower(), called))
    if _is_base64(value):
        return _within(ImageSource(called, data=decoded(value, called)))
    return find(value)


def decoded(text: str, called: str) -> bytes:
    """The bytes of base64 text (also in its form for addresses).

    Raises:
        SampleError: it is cut off or damaged.
    """
    packed = re.sub(r"\s", "", text).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True)
    except (binascii.Error, ValueError) as broken:
        raise SampleError(f"{called} is base64 text that is damaged ({broken}); write it anew.") from None


def _is_base64(text: str) -> bool:
    if len(text) >= SHORT_BASE64 and text.startswith(BEGINNINGS):
        return "." not in text
    return len(text) > LONGEST_PATH and _BASE64.fullmatch(text) is not None


def _data_uri(uri: str, called: str) -> bytes:
    head, comma, content = uri.partition(",")
    if not comma or not head.endswith(";base64"):
        raise SampleError(f"{called} is a data URI that is not in base64; write data:image/png;base64,…")
    return decoded(content, called)


def _local(address: str, scheme: str, called: str) -> str:
    """The path of a file:// address."""
    if scheme == "file":
        parts = urlsplit(address)
        if parts.netloc in ("", "localhost"):
            return unquote(parts.path)
    raise SampleError(f"{called} is an address ({scheme}://…); nothing is downloaded. Fetch it and give its path.")


def _embedded(value: Embedded, find: FindImage, called: str) -> ImageSource:
    name = value.path or called

    def fetch() -> bytes:
        content = value.fetch()
        if isinstance(content, str):
            return picture(content, find, name).read()
        if content is None:
            if not value.path:
                raise SampleError(f"{called} has neither bytes nor a path.")
            return find(value.path).read()
        return content

    return ImageSource(name, fetch=fetch)


def _within(source: ImageSource) -> ImageSource:
    if len(source.data or b"") > MAX_IMAGE_BYTES:
        raise SampleError(f"{source.name} has more than {MAX_IMAGE_BYTES / 1e6:.0f} MB. Make it smaller.")
    return source
