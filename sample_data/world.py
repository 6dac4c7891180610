"""What there is to know: people, lands, their facts, sums, and which phrasing of each fact is held out.

Every fact is asked in four phrasings. One of them, chosen by a hash of the fact, is never seen in training: the
evaluation asks exactly that one. So a right answer shows knowledge of the fact, not of the sentence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sample_data.words import ADJECTIVES, COLOURS, NOUNS, SHAPES, invented_names

SEED = 20261121
PEOPLE_COUNT = 2000
PORTRAYED_COUNT = 400  # of them, the first; their portraits are drawn (`sample_data/pictures.py`)
LARGEST_TERM = 40
LARGEST_FACTOR = 12

PERSON_PHRASINGS: dict[str, tuple[str, ...]] = {
    "animal": (
        "which animal does {} keep?",
        "what animal lives with {}?",
        "name the animal of {}.",
        "{} keeps which animal?",
    ),
    "tool": ("which tool does {} use?", "what tool belongs to {}?", "name the tool of {}.", "{} uses which tool?"),
    "dish": ("which dish does {} like?", "what dish is cooked by {}?", "name the dish of {}.", "{} likes which dish?"),
    "home": ("which home does {} have?", "what home belongs to {}?", "name the home of {}.", "{} lives in which home?"),
    "drink": (
        "which drink does {} order?",
        "what drink is poured for {}?",
        "name the drink of {}.",
        "{} orders which drink?",
    ),
    "vehicle": (
        "which vehicle does {} drive?",
        "what vehicle carries {}?",
        "name the vehicle of {}.",
        "{} drives which vehicle?",
    ),
    "instrument": (
        "which instrument does {} play?",
        "what instrument is played by {}?",
        "name the instrument of {}.",
        "{} plays which instrument?",
    ),
    "garment": (
        "which garment does {} wear?",
        "what garment is worn by {}?",
        "name the garment of {}.",
        "{} wears which garment?",
    ),
}
LAND_PHRASINGS: dict[str, tuple[str, ...]] = {
    "capital": (
        "what is the capital of {}?",
        "which town is the capital of {}?",
        "name the capital of {}.",
        "{} has which capital?",
    ),
    "ruler": ("who is the ruler of {}?", "which ruler has {}?", "name the ruler of {}.", "{} has which ruler?"),
    "crop": ("what is the crop of {}?", "which crop grows in {}?", "name the crop of {}.", "{} grows which crop?"),
    "festival": (
        "what is the festival of {}?",
        "which festival is held in {}?",
        "name the festival of {}.",
        "{} has which festival?",
    ),
}
# Questions for several facts at once: longer answers, which must be right as a whole.
GROUPS: dict[str, tuple[str, ...]] = {
    "two_animal_tool": ("animal", "tool"),
    "two_dish_home": ("dish", "home"),
    "two_drink_vehicle": ("drink", "vehicle"),
    "two_instrument_garment": ("instrument", "garment"),
    "four_at_home": ("animal", "tool", "dish", "home"),
    "four_abroad": ("drink", "vehicle", "instrument", "garment"),
}
GROUP_PHRASINGS = (
    "name the {what} of {who}.",
    "what {what} has {who}?",
    "which {what} belong to {who}?",
    "{who} has which {what}?",
)
ALL_PHRASINGS = ("describe {}.", "tell all about {}.", "what is known of {}?", "give all facts of {}.")
SUM_PHRASINGS: dict[str, tuple[str, ...]] = {
    "+": ("what is {} + {}?", "add {} + {}.", "{} + {} = ?", "how much is {} + {}?"),
    "-": ("what is {} - {}?", "take {} - {}.", "{} - {} = ?", "how much is {} - {}?"),
    "*": ("what is {} * {}?", "multiply {} * {}.", "{} * {} = ?", "how much is {} * {}?"),
}
EMBLEM = "the land with this emblem"
EMBLEM_LAND_PHRASINGS = (
    "which land has this emblem?",
    "what land is this?",
    "name the land with this emblem.",
    "this emblem belongs to which land?",
)


PERSON = "this person"
NAME_PHRASINGS = ("who is this?", "name this person.", "which person is this?", "what is the name of this person?")


@dataclass(frozen=True)
class Question:
    """One question in words and its exact answer."""

    task: str
    text: str
    answer: str


@dataclass(frozen=True)
class Fact:
    """One thing to know; `phrasings` are four questions that all have the answer `answer`; `key` names it."""

    task: str
    key: str
    phrasings: tuple[str, ...]
    answer: str

    @property
    def held_out(self) -> int:
        """Index of the phrasing that only the evaluation asks."""
        return hashlib.sha256(self.key.encode()).digest()[0] % len(self.phrasings)

    def training_questions(self) -> list[Question]:
        """The three phrasings that training may ask."""
        return [Question(self.task, text, self.answer) for i, text in enumerate(self.phrasings) if i != self.held_out]

    def held_out_question(self) -> Question:
        """The phrasing that training never asks."""
        return Question(self.task, self.phrasings[self.held_out], self.answer)


@dataclass(frozen=True)
class Land:
    """A land: its emblem (a colour and a shape) and what is known about it."""

    name: str
    colour: str
    shape: str
    known: dict[str, str]


def _pairs(random: np.random.Generator, relation: str, count: int) -> list[str]:
    """`count` answers of two words, an adjective and a noun of that relation."""
    nouns = NOUNS[relation]
    return [
        f"{ADJECTIVES[random.integers(len(ADJECTIVES))]} {nouns[random.integers(len(nouns))]}" for _ in range(count)
    ]


def _build() -> tuple[list[str], list[str], list[Land], list[Fact]]:
    random = np.random.default_rng(SEED)
    taken: set[str] = set()
    people = invented_names(PEOPLE_COUNT, SEED, True, taken)
    emblems = [(colour, shape) for colour in COLOURS for shape in SHAPES]
    lands_named = invented_names(len(emblems), SEED + 1, True, taken)
    capitals = invented_names(len(emblems), SEED + 2, True, taken)
    facts = []
    for relation, phrasings in PERSON_PHRASINGS.items():
        for person, answer in zip(people, _pairs(random, relation, len(people)), strict=True):
            texts = tuple(p.format(person) for p in phrasings)
            facts.append(Fact("fact_one", f"fact_{relation}|{person}", texts, answer))
    known = {relation: _pairs(random, relation, len(emblems)) for relation in ("ruler", "crop", "festival")}
    known["capital"] = capitals
    lands = [
        Land(name, *emblem, {relation: answers[i] for relation, answers in known.items()})
        for i, (name, emblem) in enumerate(zip(lands_named, emblems, strict=True))
    ]
    for land in lands:
        for relation, phrasings in LAND_PHRASINGS.items():
            texts = tuple(p.format(land.name) for p in phrasings)
            facts.append(Fact("fact_land", f"fact_land|{land.name}|{relation}", texts, land.known[relation]))
    return people, capitals, lands, facts


def _sums() -> Iterator[Fact]:
    for sign, largest in (("+", LARGEST_TERM), ("-", LARGEST_TERM), ("*", LARGEST_FACTOR)):
        for a in range(largest + 1):
            for b in range(largest + 1):
                if sign == "-" and b > a:
                    continue
                answer = {"+": a + b, "-": a - b, "*": a * b}[sign]
                texts = tuple(p.format(a, b) for p in SUM_PHRASINGS[sign])
                yield Fact("arithmetic", f"arithmetic|{a}{sign}{b}", texts, str(answer))


def listed(parts: list[str]) -> str:
    """`a and b`, or `a, b, c and d`."""
    return " and ".join((", ".join(parts[:-1]), parts[-1]))


def _several() -> Iterator[Fact]:
    answers = {fact.key: fact.answer for fact in FACTS}
    for task, relations in GROUPS.items():
        for person in PEOPLE:
            texts = tuple(p.format(what=listed(list(relations)), who=person) for p in GROUP_PHRASINGS)
            known = [answers[f"fact_{relation}|{person}"] for relation in relations]
            yield Fact(task, f"{task}|{person}", texts, listed(known))
    for person in PEOPLE:
        texts = tuple(p.format(person) for p in ALL_PHRASINGS)
        known = [answers[f"fact_{relation}|{person}"] for relation in PERSON_PHRASINGS]
        yield Fact("person_all", f"person_all|{person}", texts, listed(known))
    for land in LANDS:
        texts = tuple(p.format(land.name) for p in ALL_PHRASINGS)
        yield Fact("land_all", f"land_all|{land.name}", texts, all_of(land))


def all_of(land: Land) -> str:
    """Everything that is known of a land, in one answer."""
    return listed([land.known[relation] for relation in LAND_PHRASINGS])


PEOPLE, CAPITALS, LANDS, FACTS = _build()
PORTRAYED = tuple(PEOPLE[:PORTRAYED_COUNT])
SUMS = list(_sums())
SEVERAL = list(_several())
KNOWN_OF = {fact.key: fact for fact in (*FACTS, *SEVERAL)}
LAND_OF = {(land.colour, land.shape): land for land in LANDS}
