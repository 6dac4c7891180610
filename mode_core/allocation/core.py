"""From the LP to the proven optimum: fix every unit whose other widths cost more than the gap, solve the rest.

The LP rounded down leaves some budget over. A few single changes give a good allocation and so a gap; any width
whose loss at the LP's price reaches that gap cannot be part of a better allocation and is struck out. What
remains, the core, holds few units and is solved exactly: by dynamic programming where its budget is a small
whole number, else as an integer programme in PuLP.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mode_core.allocation import dp, ilp
from mode_core.allocation.bound import Cut, Relaxation

DP_CELLS = 30_000_000  # units × widths × budget of the largest core that dynamic programming takes
SLIVER = 1e-12  # relative; an improvement below this share of the gap is rounding


@dataclass(frozen=True)
class Finish:
    """Optimal width indices `[G]`; per owner, the cost above the LP's bound that the optimum needs, and proof.

    `gap[k]` is inf where no allocation spends owner k's budget exactly. `proven_gap[k]` ≤ gap: what was shown.
    `core` is the number of units that were left to solve exactly.
    """

    item: np.ndarray
    gap: np.ndarray
    proven_gap: np.ndarray
    core: int


def finish(relaxation: Relaxation, cut: Cut, engine: str = "auto") -> Finish:
    """The exact optimum of every owner from its LP cut. `engine`: "auto", "dp" or "ilp" for the core."""
    open_ = (cut.residual > 0) & ((cut.price != 0) | relaxation.rising)
    gap = np.where(open_, np.inf, 0.0)
    item = cut.item.copy()
    if not open_.any():
        return Finish(item, gap, gap, 0)
    loss = relaxation.reduced_costs(cut)
    extra = relaxation.weight - relaxation.weight[np.arange(len(item)), item][:, None]
    proven, core = gap.copy(), 0
    ends = np.append(relaxation.starts[1:], len(item))
    for owner in np.flatnonzero(open_):
        rows = slice(relaxation.starts[owner], ends[owner])
        part = _Part(loss[rows], extra[rows], int(cut.residual[owner]), float(cut.price[owner]), relaxation.rising)
        edge = cut.edge[owner] - relaxation.starts[owner] * loss.shape[1]
        chosen, gap[owner], proven[owner], size = part.solve(item[rows], int(edge), engine)
        item[rows] = chosen
        core += size
    return Finish(item, gap, proven, core)


@dataclass(frozen=True)
class _Part:
    """One owner: losses and extra weights `[M, B]` against the LP's choice, and what is left to spend."""

    loss: np.ndarray
    extra: np.ndarray
    residual: int
    price: float
    equality: bool

    def solve(self, item: np.ndarray, edge: int, engine: str) -> tuple[np.ndarray, float, float, int]:
        """Best items, their gap, the gap proven from below, units in the core."""
        best, gap = self._heuristic(item, edge)
        keep = self.loss < gap * (1 - SLIVER)
        units = np.flatnonzero(keep.sum(axis=1) > 1)
        if len(units) == 0:
            return best, gap, gap, 0
        loss = np.where(keep[units], self.loss[units], np.inf)
        exact = self._exact(loss, self.extra[units], engine)
        if exact is None or exact[1] >= gap * (1 - SLIVER):
            return best, gap, gap if exact is None else min(gap, exact[2]), len(units)
        chosen = item.copy()
        chosen[units] = exact[0]
        return chosen, exact[1], exact[2], len(units)

    def _value(self, loss: np.ndarray, extra: np.ndarray, room: int) -> np.ndarray:
        """Gap of single changes: loss plus the price of what stays unspent; inf where it does not fit."""
        left = room - extra
        fits = (left == 0) if self.equality else (left >= 0)
        return np.where(fits, loss + self.price * left, np.inf)

    def _heuristic(self, item: np.ndarray, edge: int) -> tuple[np.ndarray, float]:
        """The best of: no change, one change, the LP's next edge, that edge and one change back."""
        nothing = np.inf if self.equality else self.price * self.residual
        best, gap = item, nothing
        single = self._value(self.loss, self.extra, self.residual)
        where = int(single.argmin())
        if single.flat[where] < gap:
            best, gap = _changed(item, where, self.loss.shape[1]), float(single.flat[where])
        if edge >= 0:
            unit, column = divmod(edge, self.loss.shape[1])
            room = self.residual - int(self.extra[unit, column])
            pair = self._value(self.loss, self.extra, room) + self.loss[unit, column]
            pair[unit] = np.inf
            where = int(pair.argmin())
            if pair.flat[where] < gap:
                best = _changed(_changed(item, edge, self.loss.shape[1]), where, self.loss.shape[1])
                gap = float(pair.flat[where])
        return best, gap

    def _exact(self, loss: np.ndarray, extra: np.ndarray, engine: str) -> tuple[np.ndarray, float, float] | None:
        """Optimum over the core: width indices, gap, proven gap; None where nothing fits."""
        usable = np.isfinite(loss)
        lightest = np.where(usable, extra, np.iinfo(np.int64).max).min(axis=1, keepdims=True)
        weight = np.where(usable, extra - lightest, 0)
        room = self.residual - int(lightest.sum())
        step = int(np.gcd.reduce(weight, axis=None)) or 1
        if self.equality and room % step:
            return None
        budget = min(room // step, int(weight.max(axis=1).sum()) // step)
        small = loss.size * (budget + 1) <= DP_CELLS
        if engine == "dp" or (engine == "auto" and small):
            return self._by_dp(loss, weight // step, budget, room, step)
        answer = ilp.solve(ilp.Programme(loss, weight, room, self.price, self.equality))
        return None if answer is None else (answer.item, answer.value, answer.bound)

    def _by_dp(self, loss: np.ndarray, weight: np.ndarray, budget: int, room: int, step: int):
        table = dp.fill(loss[None], weight[None], budget)
        left = room - step * np.arange(budget + 1)
        total = self._spent(table.value[0], left)
        spent = int(total.argmin())
        if not np.isfinite(total[spent]):
            return None
        return table.trace(np.array([spent]))[0], float(total[spent]), float(total[spent])

    def _spent(self, value: np.ndarray, left: np.ndarray) -> np.ndarray:
        if self.equality:
            return np.where(left == 0, value, np.inf)
        return value + self.price * left


def _changed(item: np.ndarray, where: int, widths: int) -> np.ndarray:
    other = item.copy()
    other[where // widths] = where % widths
    return other
