"""Sounds that tests make for themselves."""

from __future__ import annotations

import io
import wave

import numpy as np

RATE = 8000


def sound(seconds: float, hertz: float, channels: int = 1) -> bytes:
    """A tone as a wav file of 16 bits, by Python's own writer."""
    tone = np.round(9000 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as opened:
        opened.setnchannels(channels)
        opened.setsampwidth(2)
        opened.setframerate(RATE)
        opened.writeframes(np.repeat(tone, channels).tobytes())
    return buffer.getvalue()
