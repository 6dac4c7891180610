"""Which experts a word, or a patch of a picture, leads to: counted in what a run keeps of single tokens.

What matches: a token that shares a character with a place where the words say what is searched for, capitals or not; so
a word that the tokenizer cuts into several is found by each of its parts. Two things are counted of every expert: its
exemplars that match (of those that it was chosen for most strongly), and the tokens of the kept samples that match and
were sent there. The order: most exemplars, then most kept tokens, then the sum of routing weights. Counts of few
tokens, no claim about what an expert is for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mode_core.runs.token_routes import TokenRoutes
from mode_core.statistics.exemplars import Exemplars


@dataclass(frozen=True)
class Hit:
    """One expert: its matching exemplars, the kept tokens that match and were sent there, the sum of all these routing
    weights, and one exemplar's words around the match ("" where none)."""

    bank: str
    expert: int
    exemplars: int
    kept: int
    weight: float
    example: str


@dataclass(frozen=True)
class Found:
    """The experts in order, and how many kept tokens matched at all."""

    hits: tuple[Hit, ...]
    tokens: int


def by_word(text: str, exemplars: Exemplars | None, routes: Iterable[TokenRoutes] = ()) -> Found:
    """Experts that `text` leads to; none for an empty text. See the head of this file."""
    wanted = text.strip().casefold()
    if not wanted:
        return Found((), 0)
    marked = [(one, _matching(one, wanted)) for one in routes]
    return _ranked(_of_exemplars(exemplars, wanted), marked)


def by_token(routes: TokenRoutes, token: int) -> Found:
    """Experts that one token of a kept sample was sent to, a patch say, by routing weight."""
    mask = np.zeros(len(routes.words), bool)
    mask[token] = True
    return _ranked({}, [(routes, mask)])


def _ranked(held: dict[tuple[str, int], tuple[int, float, str]], marked: list[tuple[TokenRoutes, np.ndarray]]) -> Found:
    kept: dict[tuple[str, int], tuple[int, float]] = {}
    for one, mask in marked:
        for row, bank in enumerate(one.banks if mask.any() else ()):
            experts, weights = one.experts[row, mask].ravel(), one.weights[row, mask].ravel().astype(float)
            experts, weights = experts[weights > 0], weights[weights > 0]
            counts, sums = np.bincount(experts), np.bincount(experts, weights)
            for expert in np.flatnonzero(counts).tolist():
                before = kept.get((bank, expert), (0, 0.0))
                kept[bank, expert] = before[0] + int(counts[expert]), before[1] + float(sums[expert])
    hits = []
    for place in held.keys() | kept.keys():
        (count, weight, example), (tokens, more) = held.get(place, (0, 0.0, "")), kept.get(place, (0, 0.0))
        hits.append(Hit(*place, count, tokens, weight + more, example))
    hits.sort(key=lambda hit: (-hit.exemplars, -hit.kept, -hit.weight, hit.bank, hit.expert))
    return Found(tuple(hits), sum(int(mask.sum()) for _, mask in marked))


def _of_exemplars(exemplars: Exemplars | None, wanted: str) -> dict[tuple[str, int], tuple[int, float, str]]:
    """(bank, expert) → matching exemplars, the sum of their weights, the words around the strongest."""
    if exemplars is None:
        return {}
    windows = {key: words for key, words in exemplars.snippets.items() if _overlaps(*words, wanted)}
    found: dict[tuple[str, int], tuple[int, float, str]] = {}
    for bank, table in exemplars.tables.items() if windows else ():
        for expert, place in zip(*np.nonzero(table[0]["weight"] > 0), strict=True):
            entry = table[0, expert, place]  # the strongest first
            if (words := windows.get(entry["window"].tobytes())) is not None:
                count, weight, example = found.get((bank, int(expert)), (0, 0.0, "".join(words)))
                found[bank, int(expert)] = count + 1, weight + float(entry["weight"]), example
    return found


def _overlaps(before: str, token: str, after: str, wanted: str) -> bool:
    """Does `wanted` stand somewhere so that the token is a part of it, or it of the token?"""
    start, text = len(before), f"{before}{token}{after}".casefold()
    begin = max(0, start - len(wanted) + 1)
    return bool(token) and wanted in text[begin : start + len(token) + len(wanted) - 1]


def _matching(routes: TokenRoutes, wanted: str) -> np.ndarray:
    """Text tokens of a sample that match, bool `[T]`; words do not run on over a picture."""
    text = "".join(word.casefold() or "\0" for word in routes.words)
    ends = np.cumsum([len(word.casefold()) or 1 for word in routes.words])
    mask, place = np.zeros(len(routes.words), bool), text.find(wanted)
    while place >= 0:
        first, last = np.searchsorted(ends, [place, place + len(wanted) - 1], side="right")
        mask[first : last + 1] = True
        place = text.find(wanted, place + 1)
    return mask & ~routes.vision
