"""Sounds: wav, flac, ogg or mp3, read when they are needed, mixed to one channel at the rate that a model listens
at."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np

from mode_core.files import LFS_POINTER
from mode_core.samples.images import AUDIO_SUFFIXES, POINTER_WORDS, ImageSource, SampleError

MAX_SECONDS = 600  # of one sound
MAX_CHANNELS = 16
LEAST_RATE, MOST_RATE = 1_000, 384_000  # samples a second


@dataclass(frozen=True)
class AudioSource:
    """One sound; `file` says where its bytes are. `name` is what a person calls it."""

    file: ImageSource

    @property
    def name(self) -> str:
        """The file's name."""
        return self.file.name

    def check(self) -> None:
        """Look at the head of the file only: is it a sound of an accepted kind and length?

        Raises:
            SampleError: it is not, or soundfile is not installed.
        """
        self._opened().close()

    @property
    def seconds(self) -> float:
        """How long it lasts; errors as in `check`."""
        with self._opened() as opened:
            return opened.frames / opened.samplerate

    def load(self, rate: int) -> np.ndarray:
        """One channel, float32 `[n]`, at `rate` samples a second (polyphase resampling).

        Raises:
            SampleError: not a sound, damaged, empty, or beyond a limit; or soundfile is not installed.
        """
        from scipy.signal import resample_poly

        with self._opened() as opened:
            own = opened.samplerate
            try:
                found = opened.read(own * MAX_SECONDS, dtype="float32", always_2d=True).mean(axis=1)
            except RuntimeError as broken:  # what soundfile's own errors are
                raise SampleError(f"{self.name}: the sound is damaged ({broken}); export it again.") from None
        if not len(found) or not np.isfinite(found).all():
            raise SampleError(f"{self.name}: the sound is empty or holds no finite numbers; export it again.")
        shared = gcd(rate, own)
        return found if own == rate else resample_poly(found, rate // shared, own // shared).astype(np.float32)

    def digest(self) -> bytes:
        """Hash of the file."""
        return hashlib.sha256(self.file.read()).digest()

    def _opened(self) -> Any:
        try:
            import soundfile
        except (ImportError, OSError):  # OSError: its library of C is not there
            raise SampleError(
                f"{self.name} is a sound, which needs soundfile: pip install 'mode-dashboard[audio]'."
            ) from None
        try:
            data = self.file.read()
            opened = soundfile.SoundFile(io.BytesIO(data))
        except (RuntimeError, TypeError) as broken:
            if data.startswith(LFS_POINTER):
                raise SampleError(f"{self.name} is {POINTER_WORDS}") from None
            kinds = ", ".join(AUDIO_SUFFIXES)
            raise SampleError(f"{self.name} is not a sound that can be read ({broken}); use {kinds}.") from None
        seconds = opened.frames / max(1, opened.samplerate)
        for found, least, most, what in (
            (seconds, 0, MAX_SECONDS, "seconds"), (opened.channels, 1, MAX_CHANNELS, "channels"),
            (opened.samplerate, LEAST_RATE, MOST_RATE, "samples a second"),
        ):  # fmt: skip
            if not least <= found <= most:
                opened.close()
                raise SampleError(f"{self.name} has {found:,.0f} {what}; between {least:,} and {most:,} are read.")
        return opened
