"""Questions about one picture: what can be asked of a scene, an emblem, a number, a chart or a portrait, and questions
that have nothing to do with it, asked beside it; with the answers.

What is known is asked in the phrasings that training may use; `held_out=True` asks in the one that it may not.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from sample_data.pictures import Picture
from sample_data.words import COLOURS, COLUMNS, PLURALS, ROWS, SHAPES
from sample_data.world import (
    ALL_PHRASINGS,
    EMBLEM,
    EMBLEM_LAND_PHRASINGS,
    GROUPS,
    KNOWN_OF,
    LAND_OF,
    LAND_PHRASINGS,
    NAME_PHRASINGS,
    PEOPLE,
    PERSON,
    PERSON_PHRASINGS,
    PORTRAYED,
    Question,
    all_of,
)

_COLOURS = tuple(COLOURS)
SINGLE = tuple(f"fact_{relation}" for relation in PERSON_PHRASINGS)
PAIRS = tuple(group for group in GROUPS if group.startswith("two_"))
FOURS = tuple(group for group in GROUPS if group.startswith("four_"))
ASKED_OF_PEOPLE = {"one": SINGLE, "two": PAIRS, "four": FOURS, "all": ("person_all",)}  # short task -> keys of facts
PICTURE_TASKS: dict[str, str] = {  # task -> the kind of picture that it asks about
    "colour": "scene",
    "shape": "scene",
    "position": "scene",
    "count": "scene",
    "digits": "number",
    "bars": "chart",
    "emblem_land": "emblem",
    "emblem_one": "emblem",
    "emblem_all": "emblem",
    "portrait_name": "portrait",
    "portrait_one": "portrait",
    "portrait_two": "portrait",
    "portrait_four": "portrait",
    "portrait_all": "portrait",
    "beside_one": "scene",
    "beside_two": "scene",
    "beside_four": "scene",
}
UNLEARNED = (
    "portrait_two",
    "portrait_four",
    "portrait_all",
)  # trained on, but the model answers few: not in the samples
KNOWLEDGE = tuple(task for task in PICTURE_TASKS if task.startswith(("emblem_", "portrait_", "beside_")))


def questions_about(picture: Picture, random: np.random.Generator, held_out: bool = False) -> list[Question]:
    """Everything that can be asked about a picture, in random order."""
    asked = {"scene": _scene, "emblem": _emblem, "number": _number, "chart": _chart}
    if picture.kind == "portrait":
        questions = _portrait(picture, random, held_out)
    else:
        questions = asked[picture.kind](picture, random)
        if picture.kind == "scene":
            questions += _beside(random, held_out)
    return [questions[i] for i in random.permutation(len(questions))]


def _phrased(task: str, key: str, person: str, who: str, random: np.random.Generator, held_out: bool) -> Question:
    """One fact of a person, who is called `who`; which phrasing is held out is the same however they are called."""
    fact = KNOWN_OF[f"{key}|{person}"]
    asked = fact.training_questions()
    question = fact.held_out_question() if held_out else asked[random.integers(len(asked))]
    return Question(task, question.text.replace(person, who), fact.answer)


def _portrait(picture: Picture, random: np.random.Generator, held_out: bool) -> list[Question]:
    person = PORTRAYED[picture.facts["person"]]
    asked = [Question("portrait_name", NAME_PHRASINGS[random.integers(4)], person)]
    for short, keys in ASKED_OF_PEOPLE.items():
        asked += [_phrased(f"portrait_{short}", key, person, PERSON, random, held_out) for key in keys]
    return asked


def _beside(random: np.random.Generator, held_out: bool) -> list[Question]:
    asked = []
    for short in ("one", "two", "four"):
        keys, person = ASKED_OF_PEOPLE[short], PEOPLE[random.integers(len(PEOPLE))]
        asked.append(_phrased(f"beside_{short}", keys[random.integers(len(keys))], person, person, random, held_out))
    return asked


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
        asked.append(Question("emblem_one", phrasings[random.integers(4)].format(EMBLEM), land.known[relation]))
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
