"""Banks down, experts across: the axes that every heatmap shares, and records laid out on them.

All arrays are float32 `[L, E]` (L banks, E the largest bank); cells beyond a smaller bank's last expert are
NaN. Nothing here loops over experts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dashboard.words.plain import plain_label


@dataclass(frozen=True)
class Axes:
    """The banks of a model in order: full module names, decoder layers, and experts in each."""

    names: tuple[str, ...]
    layers: tuple[int, ...]
    experts: tuple[int, ...]
    short: tuple[str, ...] = ()  # the ticks of banks that are not in the order of the model

    @classmethod
    def of(cls, banks: Iterable) -> Axes:
        """From anything with `.name` and `.shape.layer`, `.shape.experts` (a BankStatistics has them)."""
        rows = [(bank.name, bank.shape.layer, bank.shape.experts) for bank in banks]
        if not rows:
            raise ValueError("There is no expert bank to draw; calibrate a Mixture-of-Experts model first.")
        return cls(*(tuple(column) for column in zip(*rows, strict=True)))

    @property
    def shape(self) -> tuple[int, int]:
        """(banks, experts of the largest bank)."""
        return len(self.names), max(self.experts)

    def taken(self, rows: np.ndarray) -> Axes:
        """The same banks in another order, each called what it was."""
        parts = (self.names, self.layers, self.experts, self.ticks)
        return Axes(*(tuple(part[row] for row in rows) for part in parts))

    @cached_property
    def ticks(self) -> list[str]:
        """Short name of each bank: its layer, and a letter where a layer holds several banks."""
        if self.short:
            return list(self.short)
        seen: dict[int, int] = {}
        short = []
        for layer in self.layers:
            place = seen.get(layer, 0)
            seen[layer] = place + 1
            short.append(f"{layer}" if self.layers.count(layer) == 1 else f"{layer}{chr(97 + place)}")
        return short

    @cached_property
    def labels(self) -> list[str]:
        """What hovering shows for each bank: `layer 3 · model.layers.3.mlp.experts`."""
        return [f"layer {tick} · {plain_label(name)}" for tick, name in zip(self.ticks, self.names, strict=True)]

    def stack(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """bank → `[E]` (or a scalar for all its experts) → float32 `[L, E]`, NaN beyond a bank's experts."""
        grid = np.full(self.shape, np.nan, np.float32)
        for row, (name, experts) in enumerate(zip(self.names, self.experts, strict=True)):
            grid[row, :experts] = values[name]
        return grid

    def y_axis(self, **more: object) -> dict:
        """Layout of a vertical axis with the first bank on top and at most eight labels."""
        every = max(1, -(-len(self.names) // 8))
        shown = list(range(0, len(self.names), every))
        ticks = self.ticks
        return {
            "range": [len(self.names) - 0.5, -0.5],
            "tickvals": shown,
            "ticktext": [ticks[row] for row in shown],
            "showgrid": False,
            "zeroline": False,
            "type": "category",
            "categoryorder": "array",
            "categoryarray": self.labels,
            **more,
        }

    def x_axis(self, **more: object) -> dict:
        """Layout of the horizontal axis over expert numbers (or places, where they are ordered)."""
        return {"range": [-0.5, self.shape[1] - 0.5], "showgrid": False, "zeroline": False, **more}


def specialisation_order(text: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Column order per bank from the most text-like expert to the most key-vision-like: int `[L, E]`."""
    return np.argsort(-(text - key), axis=1, kind="stable")


def reorder(grid: np.ndarray, order: np.ndarray | None) -> np.ndarray:
    """Take each row's columns in the given order; None leaves them."""
    return grid if order is None else np.take_along_axis(grid, order, axis=1)
