"""A sound as a picture: which frequencies are loud when, by a windowed Fourier transform."""

from __future__ import annotations

import numpy as np
from PIL import Image

from mode_core.samples.sounds import AudioSource

RATE, WINDOW = 16_000, 512  # samples a second, and in one window (32 ms)
PER_SECOND, WIDEST, HEIGHT = 50, 2048, 64  # pixels
DECIBELS = 80  # below its loudest is black
SILENT = 1e-3  # of a window's sum of magnitudes: what is never louder stays dark


def spectrogram(sound: AudioSource) -> Image.Image:
    """Grey, `HEIGHT` pixels high: time runs to the right, evenly over the whole width, frequency upward to 8 kHz, and
    what is louder is brighter.

    Raises:
        SampleError: as `AudioSource.load`.
    """
    wave = sound.load(RATE)
    columns = min(WIDEST, max(8, round(len(wave) / RATE * PER_SECOND)))
    centres = ((np.arange(columns) + 0.5) / columns * len(wave)).astype(int)
    windows = np.pad(wave, WINDOW // 2)[centres[:, None] + np.arange(WINDOW)] * np.hanning(WINDOW)
    loud = np.abs(np.fft.rfft(windows, axis=1))[:, 1:].reshape(columns, HEIGHT, -1).mean(axis=2)
    decibels = 20 * np.log10(np.maximum(loud, 1e-9) / max(float(loud.max()), SILENT))
    return Image.fromarray((255 * np.clip(1 + decibels / DECIBELS, 0, 1)).astype(np.uint8).T[::-1])
