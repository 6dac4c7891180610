"""Bits by projection on axes that know experts: every bank becomes two rows, gate and up above down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from dashboard.charts.grids import Axes
from mode_core.importance import CostTable

HALVES = ("gate and up", "down")


def is_split(bits: Mapping[str, np.ndarray]) -> bool:
    """Are these bits by projection, `[E, 2]`?"""
    return any(np.ndim(table) == 2 for table in bits.values())


def split_axes(axes: Axes) -> Axes:
    """Two rows for every bank, under names of their own."""
    names = tuple(_name(bank, half) for bank in axes.names for half in HALVES)
    return Axes(names, _twice(axes.layers), _twice(axes.experts))


def split_bits(bits: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """bank → `[E]` or `[E, 2]` → row name → `[E]`."""
    rows = {}
    for bank, table in bits.items():
        table = np.asarray(table)
        for column, half in enumerate(HALVES):
            rows[_name(bank, half)] = table[:, column] if table.ndim == 2 else table
    return rows


def split_costs(costs: CostTable) -> CostTable:
    """bank → `[E, 2, B]` → row name → `[E, B]`."""
    rows = {_name(bank, half): table[:, column] for bank, table in costs.items() for column, half in enumerate(HALVES)}
    return replace(costs, costs=rows, unsupported={})


def _name(bank: str, half: str) -> str:
    return f"{bank} · {half}"


def _twice(values: tuple) -> tuple:
    return tuple(value for value in values for _ in HALVES)
