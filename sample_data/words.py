"""Every word that the bundled model knows: the closed vocabulary of its small world."""

from __future__ import annotations

import numpy as np

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "orange": (245, 140, 20),
    "yellow": (235, 205, 30),
    "green": (40, 150, 60),
    "cyan": (40, 190, 205),
    "blue": (40, 70, 200),
    "purple": (140, 50, 170),
    "black": (30, 30, 30),
}
SHAPES = ("circle", "square", "triangle", "diamond", "cross", "star", "ring", "heart")
PLURALS = dict(
    zip(SHAPES, ("circles", "squares", "triangles", "diamonds", "crosses", "stars", "rings", "hearts"), strict=True)
)
ROWS = ("top", "middle", "bottom")
COLUMNS = ("left", "centre", "right")
ORDINALS = ("first", "second", "third")
EXTREMES = ("tallest", "shortest")
DIGITS = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
BLANK = "background"

# A line each: what it is, and sixteen words (adjectives: forty-eight). Answers join an adjective and a noun.
_TABLE = """
adjective: grey wild tame quiet bright small giant old young clever lazy brave gentle proud shy swift
adjective: golden silver bronze copper wooden glass iron stone marble velvet woven painted carved broken polished hollow
adjective: salty sweet sour bitter smoked roasted frozen dried fresh spicy pickled candied honeyed toasted boiled mild
animal: heron otter badger lynx falcon tortoise goat raven beetle hare fox mole pony newt owl crab
tool: sickle hammer loom chisel anvil compass lantern kettle needle plough rake saw spade wheel bell ladder
dish: plum soup bread cheese lentil turnip pear cake fig bean olive cabbage almond trout barley mushroom
home: tower cottage mill cave barn palace boat tent castle inn shed bridge temple cellar attic garden
drink: cider juice milk broth nectar cordial punch mead syrup lemonade cocoa tonic water wine beer brew
vehicle: cart sledge wagon canoe raft carriage barge bicycle glider balloon tram ferry chariot scooter kayak rickshaw
instrument: flute fiddle drum harp lute horn cello banjo organ zither gong piccolo trumpet oboe lyre whistle
garment: coat scarf hat cape boots gloves shawl robe tunic belt apron vest sash hood mittens slippers
ruler: queen king duke baron mayor empress prince abbot captain judge chief countess consul regent sultan warden
crop: wheat rice maize oats cotton tea coffee hops flax tobacco pepper saffron grapes melons dates roses
festival: dance race feast fair play market parade choir regatta wedding contest circus vigil joust concert bonfire
"""


def _listed(table: str) -> dict[str, tuple[str, ...]]:
    """Kind -> its words; lines of the same kind are joined."""
    words: dict[str, tuple[str, ...]] = {}
    for line in table.strip().splitlines():
        kind, _, listed = line.partition(":")
        words[kind] = (*words.get(kind, ()), *listed.split())
    return words


NOUNS = _listed(_TABLE)
ADJECTIVES = NOUNS.pop("adjective")

_ONSETS = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "br", "dr", "gr", "kl", "st", "tr")
_VOWELS = ("a", "e", "i", "o", "u")
_ENDINGS = ("n", "l", "r", "m", "s", "k", "th", "x")


def invented_names(count: int, seed: int, capital: bool, taken: set[str]) -> list[str]:
    """`count` distinct pronounceable names that are not in `taken` (which they join); the same for the same seed."""
    random = np.random.default_rng(seed)
    names: list[str] = []
    while len(names) < count:
        syllables = [_ONSETS[random.integers(len(_ONSETS))] + _VOWELS[random.integers(5)] for _ in range(2)]
        name = "".join(syllables) + _ENDINGS[random.integers(len(_ENDINGS))]
        name = name.capitalize() if capital else name
        if name not in taken:
            taken.add(name)
            names.append(name)
    return names
