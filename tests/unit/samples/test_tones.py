"""Pictures of unusual depth become what they look like: a ramp stays a ramp, whatever numbers it is stored in."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mode_core.samples import ImageSource, SampleError

RAMP = np.tile(np.arange(256), (4, 1))


def loaded(values: np.ndarray, form: str = "TIFF") -> np.ndarray:
    held = io.BytesIO()
    Image.fromarray(values).save(held, form)
    return np.asarray(ImageSource("x", data=held.getvalue()).load())


def deep_png(colour_type: int, channels: np.ndarray) -> bytes:
    """A PNG of 16 bits, written by hand: Pillow writes such colours with 8."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in channels)
    height, width = channels.shape[:2]

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("values", "form"),
    [
        ((RAMP * 257).astype(np.uint16), "PNG"),
        ((RAMP * 257).astype(np.uint16), "TIFF"),
        ((RAMP * 4).astype(np.uint16), "PNG"),  # 10 of 16 bits
        ((RAMP * 100_000).astype(np.int32), "TIFF"),
        ((RAMP / 255).astype(np.float32), "TIFF"),
        ((RAMP / 127.5 - 1).astype(np.float32), "TIFF"),
    ],
)
def test_a_ramp_stays_a_ramp(values, form):
    assert np.array_equal(loaded(values, form), np.repeat(RAMP[..., None], 3, axis=2))


@pytest.mark.parametrize("colour_type", [2, 4, 6])
def test_colours_of_16_bits_and_transparency(colour_type):
    grey, opaque = RAMP * 257, np.full_like(RAMP, 65535)
    channels = {2: [grey] * 3, 4: [grey, opaque], 6: [grey, grey, grey, opaque]}[colour_type]
    source = ImageSource("x", data=deep_png(colour_type, np.stack(channels, axis=-1)))
    assert np.array_equal(np.asarray(source.load()), np.repeat(RAMP[..., None], 3, axis=2))


@pytest.mark.parametrize(
    ("value", "kind", "bright"),
    [(32768, np.uint16, 128), (100, np.int32, 100), (0.5, np.float32, 128), (-3, np.int32, 0), (9e9, np.float32, 255)],
)
def test_one_tone_everywhere_is_as_bright_as_it_is(value, kind, bright):
    assert np.unique(loaded(np.full((4, 4), value, kind))).tolist() == [bright]


def test_what_has_no_colours_is_refused_by_name():
    with pytest.raises(SampleError, match=r"x: a picture of the kind F cannot be turned into RGB .*no finite numbers"):
        loaded(np.array([[np.nan, 1.0]], np.float32))


def test_cmyk_and_palettes_with_transparency():
    held = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 100, 50)).convert("CMYK").save(held, "JPEG", quality=100)
    found = np.asarray(ImageSource("x", data=held.getvalue()).load()).mean(axis=(0, 1))
    assert np.abs(found - (200, 100, 50)).max() < 4
    palette, held = Image.new("P", (2, 1)), io.BytesIO()
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putdata([0, 1])
    palette.save(held, "PNG", transparency=0)
    assert [*ImageSource("x", data=held.getvalue()).load().getdata()] == [(255, 255, 255), (0, 0, 255)]
