"""Pictures of any depth → RGB with 8 bits: upright, transparent parts on white, wide ranges scaled, nothing cut off."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

WIDE = ("I", "F")  # modes, or their beginnings, whose values do not end at 255


def upright_rgb(picture: Image.Image) -> Image.Image:
    """A picture in RGB, turned upright as its camera noted; transparent parts on white.

    Pictures of 16 or 32 bits and of floating numbers are scaled by their range: the smallest value becomes black, the
    largest white.

    Raises:
        ValueError: a mode that has no way to RGB, or values that are no finite numbers.
    """
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith(WIDE):
        return _scaled(picture).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture.convert("RGBA"))
    return picture.convert("RGB")


def _scaled(picture: Image.Image) -> Image.Image:
    values = np.asarray(picture).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("it holds values that are no finite numbers")
    low, high = values.min(), values.max()
    if low == high:  # one tone everywhere: as bright as it is within the smallest usual range that holds it
        tops = (1.0,) if picture.mode == "F" else ()
        low, high = 0.0, next((top for top in (*tops, 255.0, 65535.0) if 0 <= low <= top), max(abs(low), 1.0))
    return Image.fromarray(np.clip((values - low) / (high - low) * 255, 0, 255).round().astype(np.uint8))
