"""Draws the pictures: icons on a soft background, numbers, bar charts and portraits, 128 x 128, and says what each
cell shows.

A picture is a grid of 8 x 8 cells of 16 x 16 pixels; one cell becomes one vision token. Most cells are background.
`labels` say, per cell, which words describe what is centred there: the vision tower is pretrained on them.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass, field

import numpy as np

from sample_data.words import COLOURS, COLUMNS, DIGITS, EXTREMES, ORDINALS, ROWS, SHAPES
from sample_data.world import PORTRAYED

SIZE = 128
CELL = 16
GRID = SIZE // CELL
# The words that can describe a cell, by kind; index 0 of a label means "none of them".
LABELS: dict[str, tuple[str, ...]] = {
    "colour": tuple(COLOURS),
    "shape": (*SHAPES, "bar"),
    "digit": DIGITS,
    "row": ROWS,
    "column": COLUMNS,
    "ordinal": ORDINALS,
    "extreme": EXTREMES,
    "person": PORTRAYED,
}
ICON_CELLS = (0, 1, 3, 4, 6, 7)  # rows and columns where icons may stand; two for each of top, middle, bottom
JITTER = 2

_FONT = {
    "0": "01110 10001 10011 10101 11001 10001 01110",
    "1": "00100 01100 00100 00100 00100 00100 01110",
    "2": "01110 10001 00001 00110 01000 10000 11111",
    "3": "11110 00001 00001 01110 00001 00001 11110",
    "4": "00010 00110 01010 10010 11111 00010 00010",
    "5": "11111 10000 11110 00001 00001 10001 01110",
    "6": "00110 01000 10000 11110 10001 10001 01110",
    "7": "11111 00001 00010 00100 01000 01000 01000",
    "8": "01110 10001 10001 01110 10001 10001 01110",
    "9": "01110 10001 10001 01111 00001 00010 01100",
}


@dataclass
class Picture:
    """Pixels [128,128,3] uint8, cell labels [8,8,kinds] (0 = none), and the facts of the picture by name."""

    pixels: np.ndarray
    labels: np.ndarray
    kind: str
    facts: dict = field(default_factory=dict)


def _glyphs() -> dict[str, np.ndarray]:
    """Digit -> [14,10] mask in 0..1: a 5 x 7 bitmap font at twice its size."""
    glyphs = {}
    for digit, rows in _FONT.items():
        bitmap = np.array([[int(bit) for bit in row] for row in rows.split()], dtype=np.float32)
        glyphs[digit] = bitmap.repeat(2, 0).repeat(2, 1)
    return glyphs


def _shape_mask(shape: str, size: int) -> np.ndarray:
    """[size,size] coverage in 0..1 of a shape that fills a square of that many pixels (4 x 4 samples a pixel)."""
    fine = 4 * size
    axis = (np.arange(fine) + 0.5) / fine * 2 - 1
    x, y = np.meshgrid(axis, axis)
    radius, angle = np.hypot(x, y), np.arctan2(x, -y)
    wave = np.abs((angle / (2 * np.pi / 5)) % 1 - 0.5) * 2
    inside = {
        "circle": radius < 0.95,
        "square": np.maximum(abs(x), abs(y)) < 0.85,
        "triangle": (y < 0.85) & (abs(x) < (y + 0.95) * 0.55),
        "diamond": abs(x) + abs(y) < 1.0,
        "cross": (np.minimum(abs(x), abs(y)) < 0.3) & (np.maximum(abs(x), abs(y)) < 0.95),
        "star": radius < 0.42 + 0.58 * wave**2,
        "ring": (radius < 0.97) & (radius > 0.55),
        "heart": (x**2 + (0.15 - 1.15 * y - 0.75 * np.sqrt(abs(x))) ** 2) < 0.85,
    }[shape]
    return inside.reshape(size, 4, size, 4).mean((1, 3)).astype(np.float32)


def _portraits() -> list[tuple[int, np.ndarray]]:
    """For each portrayed person a colour and a [15,15] mask in 0..1: five by five blocks, left as right, made from the
    name. Portraits of one colour differ in at least four of the fifteen blocks that are free."""
    portraits: list[tuple[int, np.ndarray]] = []
    taken: dict[int, list[np.ndarray]] = {}
    for name in PORTRAYED:
        for salt in itertools.count():
            digest = hashlib.sha256(f"{name}|{salt}".encode()).digest()
            colour, bits = digest[0] % len(COLOURS), np.array([byte % 2 for byte in digest[1:16]])
            others = taken.setdefault(colour, [])
            if 5 <= bits.sum() <= 11 and all((bits != other).sum() >= 4 for other in others):
                others.append(bits)
                break
        half = bits.reshape(5, 3)
        mask = np.concatenate([half, half[:, 1::-1]], axis=1).astype(np.float32)
        portraits.append((colour, mask.repeat(3, 0).repeat(3, 1)))
    return portraits


GLYPHS = _glyphs()
PORTRAITS = _portraits()
MASKS = {(shape, size): _shape_mask(shape, size) for shape in SHAPES for size in (15, 16, 17, 18)}
_PALETTE = np.array(list(COLOURS.values()), dtype=np.float32)


def _background(random: np.random.Generator) -> np.ndarray:
    """[128,128,3] float: a pale tint with a linear gradient and a little grain."""
    tint = random.uniform(205, 245, 3)
    slope = random.uniform(-22, 22, 2)
    axis = np.linspace(-0.5, 0.5, SIZE, dtype=np.float32)
    light = slope[0] * axis[:, None] + slope[1] * axis[None, :]
    light = light + random.integers(-2, 3, (SIZE // 2, SIZE // 2)).repeat(2, 0).repeat(2, 1)
    return (tint[None, None] + light[..., None]).astype(np.float32)


def _paste(pixels: np.ndarray, mask: np.ndarray, top: int, left: int, colour: np.ndarray) -> None:
    """Blends a mask in a colour into the pixels; what lies outside the picture is cut off."""
    y0, x0 = max(0, top), max(0, left)
    y1, x1 = min(SIZE, top + mask.shape[0]), min(SIZE, left + mask.shape[1])
    part = mask[y0 - top : y1 - top, x0 - left : x1 - left, None]
    pixels[y0:y1, x0:x1] += part * (colour - pixels[y0:y1, x0:x1])


def _tinted(random: np.random.Generator, colour: int) -> np.ndarray:
    return np.clip(_PALETTE[colour] + random.uniform(-14, 14, 3), 0, 255).astype(np.float32)


def region(cell: int) -> int:
    """Which third of the grid a row or column belongs to: 0, 1 or 2."""
    return min(2, cell * 3 // GRID)


def _label(labels: np.ndarray, row: int, column: int, **words: int) -> None:
    """Writes label indices (0-based words) of one cell; row and column words are always among them."""
    kinds = list(LABELS)
    for kind, word in {**words, "row": region(row), "column": region(column)}.items():
        labels[row, column, kinds.index(kind)] = word + 1


def _finish(pixels: np.ndarray, labels: np.ndarray, kind: str, **facts: object) -> Picture:
    return Picture(np.clip(np.rint(pixels), 0, 255).astype(np.uint8), labels, kind, facts)


def _blank(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return _background(random), np.zeros((GRID, GRID, len(LABELS)), dtype=np.int64)


def _icon(
    random: np.random.Generator, pixels: np.ndarray, labels: np.ndarray, cell: tuple[int, int], colour: int, shape: int
) -> None:
    size = int(random.integers(15, 19))
    top, left = (c * CELL + (CELL - size) // 2 + int(random.integers(-JITTER, JITTER + 1)) for c in cell)
    _paste(pixels, MASKS[SHAPES[shape], size], top, left, _tinted(random, colour))
    _label(labels, *cell, colour=colour, shape=shape)


def draw_scene(random: np.random.Generator) -> Picture:
    """One to six icons that do not touch; facts: `icons`, a list of (colour, shape, row third, column third)."""
    pixels, labels = _blank(random)
    count = int(random.integers(1, 7))
    palette = random.permutation(len(COLOURS))[: int(random.integers(2, 7))]
    forms = random.permutation(len(SHAPES))[: int(random.integers(2, 7))]
    cells: list[tuple[int, int]] = []
    icons = []
    while len(cells) < count:
        cell = tuple(int(ICON_CELLS[i]) for i in random.integers(0, len(ICON_CELLS), 2))
        if any(max(abs(cell[0] - r), abs(cell[1] - c)) < 2 for r, c in cells):
            continue
        cells.append(cell)
        colour, shape = int(random.choice(palette)), int(random.choice(forms))
        _icon(random, pixels, labels, cell, colour, shape)
        icons.append((colour, shape, region(cell[0]), region(cell[1])))
    return _finish(pixels, labels, "scene", icons=icons)


def draw_emblem(random: np.random.Generator) -> Picture:
    """One icon alone, the emblem of a land; facts: `colour`, `shape`."""
    pixels, labels = _blank(random)
    cell = tuple(int(ICON_CELLS[i]) for i in random.integers(0, len(ICON_CELLS), 2))
    colour, shape = int(random.integers(len(COLOURS))), int(random.integers(len(SHAPES)))
    _icon(random, pixels, labels, cell, colour, shape)
    return _finish(pixels, labels, "emblem", colour=colour, shape=shape)


def draw_number(random: np.random.Generator) -> Picture:
    """A number of two or three digits in one colour; facts: `digits`, `colour`."""
    pixels, labels = _blank(random)
    count = int(random.integers(2, 4))
    row, start = int(random.integers(GRID)), int(random.integers(GRID - count + 1))
    colour = int(random.integers(len(COLOURS)))
    paint = _tinted(random, colour)
    digits = [int(d) for d in random.integers(0, 10, count)]
    digits[0] = digits[0] or int(random.integers(1, 10))
    shift = random.integers(-1, 2, 2)
    for i, digit in enumerate(digits):
        top, left = row * CELL + 1 + shift[0], (start + i) * CELL + 3 + shift[1]
        _paste(pixels, GLYPHS[str(digit)], int(top), int(left), paint)
        _label(labels, row, start + i, digit=digit, ordinal=i, colour=colour)
    return _finish(pixels, labels, "number", digits=digits, colour=colour)


def draw_chart(random: np.random.Generator) -> Picture:
    """Three to five bars of different colours and heights of one to seven cells; facts: `bars` (colour, height)."""
    pixels, labels = _blank(random)
    count = int(random.integers(3, 6))
    columns = sorted(int(c) for c in random.permutation(GRID)[:count])
    colours = [int(c) for c in random.permutation(len(COLOURS))[:count]]
    heights = [int(h) + 1 for h in random.permutation(7)[:count]]
    shift, width = int(random.integers(-1, 2)), int(random.integers(10, 13))
    for column, colour, height in zip(columns, colours, heights, strict=True):
        mask = np.ones((height * CELL - 4, width), dtype=np.float32)
        _paste(
            pixels, mask, SIZE - 1 - mask.shape[0], column * CELL + (CELL - width) // 2 + shift, _tinted(random, colour)
        )
        for step in range(1, height):
            _label(labels, GRID - step, column, colour=colour)
        words = {"colour": colour, "shape": LABELS["shape"].index("bar"), "digit": height}
        if height in (max(heights), min(heights)):
            words["extreme"] = int(height == min(heights))
        _label(labels, GRID - height, column, **words)
    pixels[SIZE - 1 :] = 90
    return _finish(pixels, labels, "chart", bars=list(zip(colours, heights, strict=True)))


def _portrait(
    random: np.random.Generator, pixels: np.ndarray, labels: np.ndarray, cell: tuple[int, int], who: int
) -> None:
    colour, mask = PORTRAITS[who]
    top, left = (c * CELL + int(random.integers(0, 2)) for c in cell)
    _paste(pixels, mask, top, left, _tinted(random, colour))
    _label(labels, *cell, person=who)


def draw_portrait(random: np.random.Generator) -> Picture:
    """One portrait alone; facts: `person`, the index of who it is."""
    pixels, labels = _blank(random)
    cell = (int(random.integers(GRID)), int(random.integers(GRID)))
    who = int(random.integers(len(PORTRAYED)))
    _portrait(random, pixels, labels, cell, who)
    return _finish(pixels, labels, "portrait", person=who)


def draw_crowd(random: np.random.Generator) -> Picture:
    """Sixteen portraits: nothing is asked about them, the vision tower alone learns from them."""
    pixels, labels = _blank(random)
    for place in random.permutation(GRID * GRID)[:16]:
        _portrait(random, pixels, labels, (int(place) // GRID, int(place) % GRID), int(random.integers(len(PORTRAYED))))
    return _finish(pixels, labels, "crowd")


DRAWERS = {
    "scene": draw_scene,
    "emblem": draw_emblem,
    "number": draw_number,
    "chart": draw_chart,
    "portrait": draw_portrait,
    "crowd": draw_crowd,
}
