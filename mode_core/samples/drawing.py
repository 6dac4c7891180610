"""Drawing some of many samples: evenly by task and by having a picture, the same from a stream as from a list."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from mode_core.errors import SettingsError

Item = TypeVar("Item")
Made = TypeVar("Made")
Stratum = tuple[str, bool]  # task, and whether there is a picture or a video

SPARE = 64  # more than asked for of every stratum, in the place of those that turn out bad


class Draw(Generic[Item]):
    """At most `limit` of the items that are offered one after another; the k-th item's lot depends on k and seed alone.

    Strata take turns, those with pictures and those without alternating, and each gives its item with the next lot,
    until there are enough: so all strata give the same number, or what they have.

    Memory: of every stratum `limit` + `SPARE` items.

    Raises:
        SettingsError: a limit below 1.
    """

    def __init__(self, limit: int, seed: int = 0):
        if limit < 1:
            raise SettingsError(f"--limit must be at least 1; got {limit}.")
        self.limit, self.seed, self.offered = limit, seed, 0
        self._lots = random.Random(seed)
        self._held: dict[Stratum, list[tuple[float, int, Item]]] = {}

    def offer(self, stratum: Stratum, item: Item) -> None:
        """The next item."""
        lot = (-self._lots.random(), self.offered, item)
        self.offered += 1
        held = self._held.setdefault(stratum, [])
        if len(held) < self.limit + SPARE:
            heapq.heappush(held, lot)
        elif lot[0] > held[0][0]:
            heapq.heapreplace(held, lot)

    def skip(self) -> None:
        """Something that is no item stands in the next place."""
        self._lots.random()
        self.offered += 1

    def chosen(self, make: Callable[[int, Item], Made | None]) -> list[tuple[int, Made]]:
        """(place, what `make` makes of place and item), in the order of the places. None from `make` is a bad item: the
        next one of its stratum takes its place."""
        groups = [[self._queue(stratum) for stratum in self._in_turn(kind)] for kind in (True, False)]
        drawn: list[tuple[int, Made]] = []
        while any(groups) and len(drawn) < self.limit:
            rounds = [_round(group, make) for group in groups]
            while rounds and len(drawn) < self.limit:
                if (made := next(rounds[0], None)) is not None:
                    drawn.append(made)
                    rounds.append(rounds[0])
                del rounds[0]
        return sorted(drawn, key=lambda pair: pair[0])

    def _queue(self, stratum: Stratum) -> Iterator[tuple[float, int, Item]]:
        return iter(sorted(self._held[stratum], key=lambda lot: (-lot[0], lot[1])))

    def _in_turn(self, kind: bool) -> list[Stratum]:
        """The strata with pictures, or those without, in an order that depends on nothing but their names and seed."""
        mine = (stratum for stratum in self._held if stratum[1] is kind)
        return sorted(mine, key=lambda stratum: random.Random(f"{self.seed}|{stratum}").random())


def _round(
    queues: list[Iterator[tuple[float, int, Item]]], make: Callable[[int, Item], Made | None]
) -> Iterator[tuple[int, Made]]:
    """One good item of each queue; queues that have none left are taken out."""
    for queue in list(queues):
        made = next(((place, one) for _, place, item in queue if (one := make(place, item)) is not None), None)
        if made is None:
            queues.remove(queue)
        else:
            yield made
