"""Questions about one picture: what can be asked of a scene, an emblem, a number or a chart, with the answers."""

from __future__ import annotations

from collections import Counter

import numpy as np

from sample_data.pictures import Picture
from sample_data.words import COLOURS, COLUMNS, PLURALS, ROWS, SHAPES
from sample_data.world import (
    ALL_PHRASINGS,
    EMBLEM,
    EMBLEM_LAND_PHRASINGS,
    LAND_OF,
    LAND_PHRASINGS,
    Question,
    all_of,
)

_COLOURS = tuple(COLOURS)
PICTURE_TASKS: dict[str, str] = {  # task -> the kind of picture that it asks about
    "colour": "scene",
    "shape": "scene",
    "position": "scene",
    "count": "scene",
    "digits": "number",
    "bars": "chart",
    "emblem_land": "emblem",
    "emblem_capital": "emblem",
    "emblem_ruler": "emblem",
    "emblem_crop": "emblem",
    "emblem_festival": "emblem",
    "emblem_all": "emblem",
}


def questions_about(picture: Picture, random: np.random.Generator) -> list[Question]:
    """Everything that can be asked about a picture, in random order."""
    asked = {"scene": _scene, "emblem": _emblem, "number": _number, "chart": _chart}[picture.kind](picture, random)
    return [asked[i] for i in random.permutation(len(asked))]


def _scene(picture: Picture, random: np.random.Generator) -> list[Question]:
    icons = [(_COLOURS[c], SHAPES[s], f"{ROWS[r]} {COLUMNS[k]}") for c, s, r, k in picture.facts["icons"]]
    colours, shapes = Counter(i[0] for i in icons), Counter(i[1] for i in icons)
    both, places = Counter(i[:2] for i in icons), Counter(i[2] for i in icons)
    asked = []
    for colour, shape, place in icons:
        if shapes[shape] == 1:
            asked += [
                Question("colour", f"what colour is the {shape}?", colour),
                Question("position", f"where is the {shape}?", place),
            ]
        if colours[colour] == 1:
            asked += [
                Question("shape", f"what shape is {colour}?", shape),
                Question("position", f"where is the {colour} shape?", place),
            ]
        if both[colour, shape] == 1:
            asked.append(Question("position", f"where is the {colour} {shape}?", place))
        if places[place] == 1:
            asked += [
                Question("shape", f"what shape is at the {place}?", shape),
                Question("colour", f"what colour is the shape at the {place}?", colour),
            ]
    asked.append(Question("count", "how many shapes are there?", str(len(icons))))
    for shape in dict.fromkeys((*shapes, SHAPES[random.integers(len(SHAPES))])):
        asked.append(Question("count", f"how many {PLURALS[shape]} are there?", str(shapes[shape])))
    for colour in dict.fromkeys((*colours, _COLOURS[random.integers(len(_COLOURS))])):
        asked.append(Question("count", f"how many {colour} shapes are there?", str(colours[colour])))
    return asked


def _emblem(picture: Picture, random: np.random.Generator) -> list[Question]:
    colour, shape = _COLOURS[picture.facts["colour"]], SHAPES[picture.facts["shape"]]
    land = LAND_OF[colour, shape]
    asked = [Question("emblem_land", EMBLEM_LAND_PHRASINGS[random.integers(4)], land.name)]
    for relation, phrasings in LAND_PHRASINGS.items():
        asked.append(Question(f"emblem_{relation}", phrasings[random.integers(4)].format(EMBLEM), land.known[relation]))
    asked.append(Question("emblem_all", ALL_PHRASINGS[random.integers(4)].format(EMBLEM), all_of(land)))
    return asked


def _number(picture: Picture, random: np.random.Generator) -> list[Question]:
    number = "".join(str(d) for d in picture.facts["digits"])
    texts = ("what number is written?", "which number do you see?", "read the number.")
    return [
        Question("digits", texts[random.integers(3)], number),
        Question("colour", "what colour is the number?", _COLOURS[picture.facts["colour"]]),
    ]


def _chart(picture: Picture, random: np.random.Generator) -> list[Question]:
    bars = [(_COLOURS[c], h) for c, h in picture.facts["bars"]]
    by_height = sorted(bars, key=lambda bar: bar[1])
    asked = [
        Question("bars", "which bar is the tallest?", by_height[-1][0]),
        Question("bars", "which bar is the shortest?", by_height[0][0]),
        Question("bars", "how many bars are there?", str(len(bars))),
    ]
    asked += [Question("bars", f"how tall is the {colour} bar?", str(height)) for colour, height in bars]
    return asked
