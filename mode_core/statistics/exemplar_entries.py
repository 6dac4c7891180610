"""One exemplar: how a token is kept in a table, what ranks it, and what a reader is given of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mode_core.errors import ExemplarsError

BEFORE, AFTER = 8, 4  # tokens of context kept around a text token
NO_TOKEN = -1  # fills a context that ends early
_BEHIND = float(1 << 20)  # puts template tokens behind all others; larger than any routing weight
ENTRY = np.dtype(
    [
        ("weight", "<f4"),  # the router's weight of this expert for this token; 0 marks an empty place
        ("template", "?"),
        ("sample", "<i8"),  # `sample_key` of the sample's id
        ("position", "<i4"),  # of the token in its sample, padding not counted
        ("place", "<i4"),  # vision, audio: which of the sample's tokens of that kind; text: −1
        ("group", "<i8"),  # entries of one group count once
        ("window", "<i4", (BEFORE + 1 + AFTER,)),  # token ids around a text token, NO_TOKEN beyond the ends
    ]
)
FIELDS = tuple(ENTRY.names or ())


@dataclass(frozen=True)
class TextExemplar:
    """One text token that an expert was chosen for: `before` + `token` + `after` read as in the sample."""

    sample: str
    weight: float
    position: int
    before: str
    token: str
    after: str
    template: bool


@dataclass(frozen=True)
class PatchExemplar:
    """One vision token. `place` counts it among the sample's vision tokens; `image` is the picture (or frame) of the
    sample, `cell` (row, column) its place in the `grid` (rows, columns) of tokens; all three None where the model's
    processor does not tell where a token lies. `picture` is the small picture's file, None where it was not kept."""

    sample: str
    weight: float
    position: int
    place: int
    image: int | None
    cell: tuple[int, int] | None
    grid: tuple[int, int] | None
    picture: Path | None

    @property
    def box(self) -> tuple[float, float, float, float] | None:
        """(left, top, right, bottom) as shares of the picture's width and height, 0 to 1."""
        return None if self.cell is None else self._around(0)

    def _around(self, context: int) -> tuple[float, float, float, float]:
        assert self.cell is not None and self.grid is not None
        (row, column), (rows, columns) = self.cell, self.grid
        low, high = (max(0, row - context), max(0, column - context)), (row + 1 + context, column + 1 + context)
        return low[1] / columns, low[0] / rows, min(columns, high[1]) / columns, min(rows, high[0]) / rows

    def pixels(self, size: tuple[int, int], context: int = 0) -> tuple[int, int, int, int] | None:
        """The box in pixels of a picture of this (width, height), with `context` cells around; at least one pixel."""
        if self.cell is None:
            return None
        left, top, right, bottom = (
            round(share * side) for share, side in zip(self._around(context), size * 2, strict=True)
        )
        return left, top, max(right, left + 1), max(bottom, top + 1)

    def crop(self, context: int = 0) -> Image.Image | None:
        """This patch cut out of the small picture, with `context` cells around; None where there is no picture.

        Raises:
            ExemplarsError: the small picture is damaged.
        """
        if self.picture is None or self.cell is None:
            return None
        try:
            with Image.open(self.picture) as opened:
                return opened.convert("RGB").crop(self.pixels(opened.size, context))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as broken:
            raise ExemplarsError(f"{self.picture} is damaged ({broken}); copy the run anew.") from None


@dataclass(frozen=True)
class SoundExemplar:
    """One audio token. `place` counts it among the sample's audio tokens; `sound` is the sound of the sample, `span`
    (begin, end) its seconds there of all `seconds`, None where it is not known which tokens are whose. `picture` is the
    file of the sound's spectrogram (`samples.spectrograms`), None where it was not kept."""

    sample: str
    weight: float
    position: int
    place: int
    sound: int | None
    span: tuple[float, float] | None
    seconds: float | None = None
    picture: Path | None = None


def span_of(place: int, sounds: Sequence[tuple[int, float]] | None) -> tuple[int | None, tuple[float, float] | None]:
    """Audio token `place` of a sample → (sound, (begin, end) in seconds), its tokens spread evenly over each sound."""
    for number, (tokens, seconds) in enumerate(sounds or ()):
        if place < tokens:
            return number, (seconds * place / tokens, seconds * (place + 1) / tokens)
        place -= tokens
    return None, None


def sample_key(sample_id: str) -> int:
    """A sample's id as a whole number that every process agrees on: 63 bits of its hash."""
    return int.from_bytes(hashlib.sha256(sample_id.encode()).digest()[:8], "big") >> 1


def picture_name(key: int, image: int, mark: str = "") -> str:
    """File name of a small picture: `sample_key`, number of the picture in its sample; `mark` "s": of a sound's."""
    return f"{key:016x}-{mark}{image}.jpg"


def cell_of(
    place: int, grids: list[list[int]] | None
) -> tuple[int | None, tuple[int, int] | None, tuple[int, int] | None]:
    """Vision token `place` of a sample → (picture, (row, column), (rows, columns)); Nones where grids are unknown."""
    for image, (rows, columns) in enumerate(grids or ()):
        if place < rows * columns:
            return image, divmod(place, columns), (rows, columns)
        place -= rows * columns
    return None, None, None


def standing(entries: np.ndarray) -> np.ndarray:
    """What entries are ranked by, higher first: the routing weight; template tokens behind all others."""
    return entries["weight"].astype(np.float64) - _BEHIND * entries["template"]


def put_best(table: np.ndarray, entries: np.ndarray, slots: np.ndarray) -> None:
    """Write the n best entries of each slot into its row of `table` `[slots, n]`; other rows stay as they are.

    `entries` `[m]` (all of a slot's, those it held before included), `slots` int `[m]`.
    """
    order = np.lexsort((entries["position"], entries["sample"], -standing(entries), slots))
    entries, slots = entries[order], slots[order]
    with np.errstate(over="ignore"):
        _, once = np.unique(entries["group"] * np.int64(1_000_003) + slots, return_index=True)
    once.sort()
    entries, slots = entries[once], slots[once]
    _, first, place = np.unique(slots, return_index=True, return_inverse=True)
    rank = np.arange(len(slots)) - first[place]
    kept = rank < table.shape[1]
    table[np.unique(slots)] = np.zeros((), ENTRY)
    table[slots[kept], rank[kept]] = entries[kept]
