"""Videos: frames in order, as single pictures, as an animated GIF, WebP or PNG, or taken of a film (mp4 …)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from PIL import Image

from mode_core.samples.films import film_facts, film_frames
from mode_core.samples.images import DAMAGE, ImageSource, SampleError
from mode_core.samples.rgb import upright_rgb

MAX_FRAMES = 256  # of one video
MAX_VIDEO_PIXELS = 128_000_000  # of all frames of one video
DEFAULT_FPS = 2.0  # frames a second of single pictures, and those taken of a film, where nothing says it


@dataclass(frozen=True)
class VideoSource:
    """One video, read when it is needed: `frames`, an `animation`, or a `film`. `fps` are frames a second, of a film
    those that are taken of it; None takes the animation's own, or `DEFAULT_FPS`. `name` is what a person calls it.

    Raises:
        SampleError: none of frames, animation and film, or several, too many frames, or fps that is not above 0.
    """

    name: str
    frames: tuple[ImageSource, ...] = ()
    animation: ImageSource | None = None
    fps: float | None = None
    film: ImageSource | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "frames", tuple(self.frames))
        if bool(self.frames) + (self.animation is not None) + (self.film is not None) != 1:
            raise SampleError(f"the video {self.name} has no frames; give a list of pictures, or an animated GIF.")
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise SampleError(f"the video {self.name}: 'fps' must be above 0 and at most 1000; got {self.fps}.")
        _check_count(self.name, len(self.frames))

    def load(self) -> list[Image.Image]:
        """All frames in RGB, of one size.

        Raises:
            SampleError: a frame that cannot be read, frames of different sizes, or beyond a limit.
        """
        frames = self._filmed() if self.film else self._animated() if self.animation else self._single()
        if strange := [n for n, frame in enumerate(frames, 1) if frame.size != frames[0].size]:
            sizes = [f"{w} × {h}" for w, h in (frames[strange[0] - 1].size, frames[0].size)]
            raise SampleError(
                f"the video {self.name}: frame {strange[0]} has {sizes[0]} pixels, the first one {sizes[1]}; "
                "make all alike."
            )
        return frames

    def _single(self) -> list[Image.Image]:
        frames, pixels = [], 0
        for source in self.frames:
            head = source.opened()
            pixels += head.width * head.height
            _check_pixels(self.name, pixels)
            frames.append(source.load())
        return frames

    def _animated(self) -> list[Image.Image]:
        opened, count = self._checked()
        frames = []
        try:
            for number in range(count):
                opened.seek(number)
                frames.append(upright_rgb(opened.copy()))
        except DAMAGE as broken:
            raise SampleError(f"the video {self.name} is damaged at frame {len(frames) + 1} ({broken}).") from None
        return frames

    def _filmed(self) -> list[Image.Image]:
        frames, pixels = [], 0
        for picture in film_frames(self.film, self.fps or DEFAULT_FPS):
            pixels += picture.width * picture.height
            _check_pixels(self.name, pixels)
            frames.append(picture)
            _check_count(self.name, len(frames))
        return frames

    def _checked(self) -> tuple[Image.Image, int]:
        opened = self.animation.opened()
        try:
            count = getattr(opened, "n_frames", 1)
        except DAMAGE as broken:
            raise SampleError(f"the video {self.name} is damaged ({broken}); export it again.") from None
        _check_count(self.name, count)
        _check_pixels(self.name, opened.width * opened.height * count)
        return opened, count

    def check(self) -> None:
        """Look at the heads of the files only: are they pictures of an accepted kind and size?"""
        if self.film:
            rate, seconds, (width, height) = film_facts(self.film, self.fps or DEFAULT_FPS)
            count = max(1, round((seconds or 0.0) * rate))
            _check_count(self.name, count)
            _check_pixels(self.name, count * width * height)
        if self.animation:
            self._checked()
        for source in self.frames:
            source.check()

    @property
    def rate(self) -> float:
        """Frames a second: as given, else by the animation's first frame, else `DEFAULT_FPS`; of a film no more than
        it has."""
        if self.film:
            return film_facts(self.film, self.fps or DEFAULT_FPS)[0]
        if self.fps is not None:
            return self.fps
        milliseconds = self.animation.opened().info.get("duration", 0) if self.animation else 0
        return 1000 / milliseconds if milliseconds else DEFAULT_FPS

    def metadata(self, frames: list[Image.Image]) -> dict[str, Any]:
        """What transformers' video processors ask about frames that were chosen already."""
        width, height = frames[0].size
        count = len(frames)
        return {
            "total_num_frames": count,
            "fps": self.rate,
            "frames_indices": list(range(count)),
            "duration": count / self.rate,
            "width": width,
            "height": height,
        }

    def frame(self, number: int) -> ImageSource | Frame:
        """One frame, to be shown; a number beyond the last one is the last one (processors repeat it)."""
        return self.frames[min(number, len(self.frames) - 1)] if self.frames else Frame(self, number)

    def digest(self) -> bytes:
        """Hash of all that it shows."""
        seal = hashlib.sha256(f"video {self.fps}".encode())
        for source in self.frames or (self.animation or self.film,):
            seal.update(hashlib.sha256(source.read()).digest())
        return seal.digest()


@dataclass(frozen=True)
class Frame:
    """One frame of an animation or a film, decoded when it is needed."""

    video: VideoSource
    number: int

    @property
    def name(self) -> str:
        """The video's name and the number of the frame, from 1."""
        return f"{self.video.name}, frame {self.number + 1}"

    def load(self) -> Image.Image:
        """The frame in RGB; errors as in `VideoSource.load`."""
        frames = _decoded(self.video)
        return frames[min(self.number, len(frames) - 1)].copy()


_last: list[tuple[VideoSource, list[Image.Image]]] = []  # whose frames are asked for one after another


def _decoded(video: VideoSource) -> list[Image.Image]:
    """Its frames; those of the last one are kept. Memory: three bytes for each of `MAX_VIDEO_PIXELS`."""
    held = _last[:]  # another thread may put its own there
    if not (held and held[0][0] is video):
        held = _last[:] = [(video, video.load())]
    return held[0][1]


def _check_count(name: str, count: int) -> None:
    if count > MAX_FRAMES:
        raise SampleError(
            f"the video {name} has {count} frames; at most {MAX_FRAMES} are read. Leave some out, "
            "of a film by a lower 'fps'."
        )


def _check_pixels(name: str, pixels: int) -> None:
    if pixels > MAX_VIDEO_PIXELS:
        raise SampleError(
            f"the frames of the video {name} have over {MAX_VIDEO_PIXELS / 1e6:.0f} million pixels together; make them "
            "smaller, or leave some out (of a film by a lower 'fps')."
        )
