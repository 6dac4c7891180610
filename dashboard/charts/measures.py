"""What the heatmaps draw: shares and sensitivities of all experts on the common axes, float32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from dashboard.charts.grids import Axes
from mode_core.allocation import Frontier, Solver, frontier
from mode_core.importance import bias
from mode_core.importance.records import Frequencies
from mode_core.importance.sensitivity import measured
from mode_core.importance.stacks import View, views
from mode_core.modalities import ALL, KEY_AUDIO, KEY_TOKENS, TEXT_TOKENS, VISION_TOKENS, kinds_of, shown_of
from mode_core.statistics import ExpertStatistics


@dataclass(frozen=True)
class FrequencyGrid:
    """Shares and counts by kind of token (`kinds_of` the run's modalities), each float32 `[L, E]`.

    A bank that saw no token of a kind is NaN there in `shares`, and 0 in `counts` (top-k selections, which is
    the number of tokens that each expert saw).
    """

    axes: Axes
    shares: Mapping[str, np.ndarray]
    counts: Mapping[str, np.ndarray]

    @classmethod
    def of(
        cls, statistics: ExpertStatistics, frequencies: Mapping[str, Frequencies], key_ratio: float, signal: str
    ) -> FrequencyGrid:
        """Lay the frequencies of all banks, computed at this ratio and signal, on one grid."""
        axes = Axes.of(statistics)
        found = views(statistics, key_ratio, signal)
        shares, counts = {}, {}
        for kind in kinds_of(statistics.modalities):
            counts[kind] = axes.stack(_rows(found, lambda view, kind=kind: view.sums(kind, "selections")))
            shares[kind] = axes.stack({name: getattr(frequencies[name], kind) for name in axes.names})
            shares[kind][[kind in frequencies[name].empty for name in axes.names]] = np.nan
        return cls(axes, shares, counts)

    def load(self, kind: str) -> np.ndarray:
        """Share times the experts of the bank: 1 is what an even spread would give; `[L, E]`."""
        return self.shares[kind] * np.asarray(self.axes.experts, np.float32)[:, None]

    def taken(self, rows: np.ndarray) -> FrequencyGrid:
        """The same banks in another order."""
        shares, counts = ({kind: grid[rows] for kind, grid in held.items()} for held in (self.shares, self.counts))
        return FrequencyGrid(self.axes.taken(rows), shares, counts)


@dataclass(frozen=True)
class SensitivityGrid:
    """Measured squared output error per expert and width, float32 `[L, E, B]` by kind (`shown_of` its modalities).

    NaN where no token of that kind was measured for an expert; `support` counts the tokens behind, `[L, E]`.
    """

    axes: Axes
    bits: tuple[int, ...]
    errors: Mapping[str, np.ndarray]
    support: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, statistics: ExpertStatistics, key_ratio: float, signal: str) -> SensitivityGrid:
        """Mean over the routed tokens of a kind of ‖E(x) − E_b(x)‖² / d (paper, expert-level sensitivity)."""
        axes = Axes.of(statistics)
        found = views(statistics, key_ratio, signal)
        errors, support = {}, {}
        for kind in shown_of(statistics.modalities):
            by_bank = _rows(found, lambda view, kind=kind: measured(view, kind))
            support[kind] = axes.stack(_rows(found, lambda view, kind=kind: view.sums(kind, "support")))
            columns = range(len(statistics.bits))
            stacked = [axes.stack({name: rows[:, b] for name, rows in by_bank.items()}) for b in columns]
            errors[kind] = np.stack(stacked, axis=-1)
            errors[kind][~(support[kind] > 0)] = np.nan
        return cls(axes, tuple(statistics.bits), errors, support)


def _rows(found: tuple[View, ...], read) -> dict[str, np.ndarray]:
    """bank name → its row of `read(view)`, over banks of all shapes."""
    return {name: row for view in found for name, row in zip(view.stack.names, read(view), strict=True)}


def starved(grid: FrequencyGrid) -> tuple[np.ndarray, np.ndarray]:
    """Per bank: how many experts counting all tokens would starve, of how many that are busiest for text: int `[L]`."""
    return starved_cells(grid).sum(axis=1), bias.busiest(grid.shares[TEXT_TOKENS]).sum(axis=1)


def starved_cells(grid: FrequencyGrid) -> np.ndarray:
    """Which experts `starved` counts: bool `[L, E]`."""
    return bias.starved(grid.shares[TEXT_TOKENS], grid.shares[ALL])


def most_starved(grid: FrequencyGrid, row: int) -> int:
    """The expert of one bank that falls furthest, in ranks, from its place for text to that for all tokens."""
    text, every = grid.shares[TEXT_TOKENS][row], grid.shares[ALL][row]
    fallen = bias.busiest_ranks(every) - bias.busiest_ranks(text)
    return int(np.nanargmax(np.where(bias.busiest(text), fallen, -np.inf)))


def original_bytes(statistics: ExpertStatistics, bytes_per_weight: int = 2) -> int:
    """Bytes of all routed experts before quantization, at 16 bits a weight."""
    shapes = [bank.shape for bank in statistics]
    weights = sum(shape.experts * (2 + shape.has_gate) * shape.hidden * shape.intermediate for shape in shapes)
    return weights * bytes_per_weight


@lru_cache(maxsize=8)
def frontier_of(solver: Solver) -> Frontier:
    """The curve of one prepared problem, computed once; the last eight are kept."""
    return frontier(solver)


def divergences(grid: FrequencyGrid) -> dict[str, np.ndarray]:
    """Jensen–Shannon divergence between kinds of token per bank, in bits (0 equal, 1 disjoint): name → `[L]`.

    NaN where a bank saw no token of one of the two kinds.
    """
    pairs = {
        "text against raw vision": (TEXT_TOKENS, VISION_TOKENS),
        "text against denoised vision": (TEXT_TOKENS, KEY_TOKENS),
        "denoised against raw vision": (KEY_TOKENS, VISION_TOKENS),
        "text against denoised audio": (TEXT_TOKENS, KEY_AUDIO),
        "denoised vision against denoised audio": (KEY_TOKENS, KEY_AUDIO),
    }
    return {name: _divergence(grid, *pair) for name, pair in pairs.items() if {*pair} <= {*grid.shares}}


def text_vision_divergence(grid: FrequencyGrid) -> np.ndarray:
    """The first of these, `[L]`: it does not depend on the key ratio."""
    return _divergence(grid, TEXT_TOKENS, VISION_TOKENS)


def _divergence(grid: FrequencyGrid, first: str, second: str) -> np.ndarray:
    one, other = (grid.shares[kind].astype(float) for kind in (first, second))
    found = bias.jensen_shannon(np.nan_to_num(one), np.nan_to_num(other))
    found[np.isnan(one).all(axis=1) | np.isnan(other).all(axis=1)] = np.nan
    return found
