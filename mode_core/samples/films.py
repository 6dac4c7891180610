"""Films (mp4 and its like) through PyAV: frames taken evenly in time, upright, in RGB. Their sound is not read."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from PIL import Image

from mode_core.files import LFS_POINTER
from mode_core.samples.images import FILM_SUFFIXES, POINTER_WORDS, ImageSource, SampleError

# Containers that hold all of a film themselves: a playlist would make the reader open whatever files it names.
SAFE = {"format_whitelist": "mov,matroska,webm,avi", "protocol_whitelist": "none"}
EARLY = 1e-4  # seconds by which a frame may come before its time, since times are rounded to the film's clock


def film_facts(source: ImageSource, wanted: float) -> tuple[float, float | None, tuple[int, int]]:
    """By the film's head alone: frames a second that are taken of it, at most `wanted` and at most its own; its seconds
    (None where it does not tell them); width and height in pixels. Errors as in `film_frames`."""
    with _opened(source) as (container, stream):
        seconds = container.duration / 1e6 if container.duration else None
        return _rate(stream, wanted), seconds, (stream.width, stream.height)


def film_frames(source: ImageSource, wanted: float) -> Iterator[Image.Image]:
    """The first frame at or after every time 0, 1/rate, 2/rate, … of a film; `rate` as in `film_facts`.

    Raises:
        SampleError: no film, damaged, without a picture; or PyAV is not installed.
    """
    taken = 0
    with _opened(source) as (container, stream):
        from av.error import FFmpegError

        rate, first = _rate(stream, wanted), None
        try:
            for frame in container.decode(stream):
                first = frame.time if first is None else first
                while (frame.time or 0.0) - (first or 0.0) >= taken / rate - EARLY:
                    taken += 1
                    yield frame.to_image().rotate(frame.rotation, expand=True)
        except FFmpegError as broken:
            raise SampleError(f"{source.name}: the film is damaged behind frame {taken} ({broken.strerror}).") from None
    if not taken:
        raise SampleError(f"{source.name}: the film holds no frame that can be decoded; export it again.")


def _rate(stream: Any, wanted: float) -> float:
    own = float(stream.average_rate or stream.guessed_rate or 0)
    return min(wanted, own) if own > 0 else wanted


@contextmanager
def _opened(source: ImageSource) -> Iterator[tuple[Any, Any]]:
    """The film as PyAV opens it, and its first stream of pictures."""
    try:
        import av
    except ImportError:
        raise SampleError(f"{source.name} is a film, which needs PyAV: pip install 'mode-dashboard[video]'.") from None
    data = source.read()
    try:
        container = av.open(io.BytesIO(data), options=SAFE)
    except av.error.FFmpegError as broken:
        if data.startswith(LFS_POINTER):
            raise SampleError(f"{source.name} is {POINTER_WORDS}") from None
        kinds, reason = ", ".join(FILM_SUFFIXES), broken.strerror
        raise SampleError(f"{source.name} is not a film that can be read ({reason}); use {kinds}.") from None
    with container:
        if not container.streams.video:
            raise SampleError(f"{source.name} holds no pictures; give a sound as 'audio'.")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        yield container, stream
