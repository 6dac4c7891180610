"""What is given one width together: an expert, its projections, a layer's projection, or a whole layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mode_core.allocation.records import AllocationError

UNITS = ("expert", "expert_projection", "projection", "layer")
SCOPES = ("bank", "model")


@dataclass(frozen=True)
class Units:
    """All units of a model over B widths in rising order.

    `cost [G, B]`; `weights [G]` model weights in a unit (relative); `bytes [G, B]` or None; `allowed [G, B]`;
    `starts [N]` first row of each bank; `experts [N]`.
    """

    names: tuple[str, ...]
    unit: str
    widths: tuple[int, ...]
    experts: tuple[int, ...]
    starts: np.ndarray
    cost: np.ndarray
    weights: np.ndarray
    bytes: np.ndarray | None
    allowed: np.ndarray

    def rows(self, bank: int) -> slice:
        """Rows of one bank."""
        last = bank + 1 == len(self.starts)
        return slice(int(self.starts[bank]), len(self.cost) if last else int(self.starts[bank + 1]))

    def spread(self, item: np.ndarray) -> dict[str, np.ndarray]:
        """Width indices `[G]` → bits of every expert: bank name → `[E]` (by projection: `[E, 2]`)."""
        widths = np.asarray(self.widths)[item]
        spread = {}
        for number, (name, experts) in enumerate(zip(self.names, self.experts, strict=True)):
            own = widths[self.rows(number)]
            shape = (experts, 2) if "projection" in self.unit else (experts,)
            spread[name] = own.reshape(shape).copy() if self.unit.startswith("expert") else np.tile(own, (experts, 1))
            spread[name] = spread[name].reshape(shape)
        return spread


def units_of(
    costs: Mapping[str, np.ndarray],
    bits: Sequence[int],
    unit: str = "expert",
    sizes: Mapping[str, np.ndarray] | None = None,
    weights: Mapping[str, object] | None = None,
    pinned: Mapping[str, Mapping[int, int]] | None = None,
) -> Units:
    """Check the costs and lay out the units; see `allocate` for the arguments.

    Raises:
        AllocationError: a cost that is no number, naming bank, expert and width; shapes that do not fit.
    """
    if unit not in UNITS:
        raise AllocationError(f"There is no unit {unit!r}; choose one of {', '.join(UNITS)}.")
    if not costs:
        raise AllocationError("There are no costs: the table holds no expert bank.")
    widths, known = _widths(bits, getattr(costs, "bits", None))
    columns = [known.index(width) for width in widths]
    tables = {name: _checked(name, table, known, unit)[..., columns] for name, table in costs.items()}
    experts = tuple(len(table) for table in tables.values())
    parts = [_by_unit(table, unit) for table in tables.values()]
    heavy = [_weights_of(name, count, unit, weights) for name, count in zip(tables, experts, strict=True)]
    bytes_ = None
    if sizes is not None:
        both = zip(tables, experts, strict=True)
        bytes_ = np.concatenate([_bytes_of(name, count, unit, sizes, bits) for name, count in both])
    starts = np.cumsum([0, *(len(part) for part in parts)])[:-1]
    cost = np.concatenate(parts)
    names = tuple(tables)
    allowed = _pinned(names, experts, starts, len(cost), widths, unit, pinned)
    return Units(names, unit, widths, experts, starts, cost, np.concatenate(heavy), bytes_, allowed)


def _widths(bits: Sequence[int], table_bits: Sequence[int] | None) -> tuple[tuple[int, ...], list[int]]:
    """Wanted widths in rising order, and the widths of the tables' columns in their order."""
    wanted = [int(width) for width in bits]
    if not wanted or len(set(wanted)) < len(wanted) or min(wanted) < 0 or wanted != list(bits):
        raise AllocationError(f"bits must be different whole widths of at least 0; got {tuple(bits)}.")
    known = wanted if table_bits is None else [int(width) for width in table_bits]
    if missing := [width for width in wanted if width not in known]:
        raise AllocationError(f"The cost table holds no width {missing[0]}; it has {', '.join(map(str, known))}.")
    return tuple(sorted(wanted)), known


def _checked(name: str, table: np.ndarray, known: Sequence[int], unit: str) -> np.ndarray:
    table, columns = np.asarray(table, dtype=float), len(known)
    if table.shape[-1] != columns or table.ndim not in (2, 3) or (table.ndim == 3 and table.shape[1] != 2):
        raise AllocationError(
            f"Costs of bank {name} have the shape {list(table.shape)}; expected [experts, {columns}] "
            f"or, by projection, [experts, 2, {columns}]."
        )
    if "projection" in unit and table.ndim == 2:
        raise AllocationError(
            f"Unit {unit!r} needs costs by projection, [experts, 2, widths] (gate+up, down); "
            f"bank {name} has only {list(table.shape)}."
        )
    if not np.isfinite(table).all():
        place = np.argwhere(~np.isfinite(table))[0]
        raise AllocationError(
            f"The cost of bank {name}, expert {place[0]}, at {known[place[-1]]} bits is {table[tuple(place)]}; "
            "costs must be numbers. Calibrate with more samples, or leave this width out."
        )
    return table


def _by_unit(table: np.ndarray, unit: str) -> np.ndarray:
    """Costs of one bank's units, `[units, B]`."""
    if unit == "expert_projection":
        return table.reshape(-1, table.shape[-1])
    if unit == "projection":
        return table.sum(axis=0)
    whole = table.sum(axis=1) if table.ndim == 3 else table
    return whole if unit == "expert" else whole.sum(axis=0, keepdims=True)


def _weights_of(name: str, experts: int, unit: str, weights: Mapping[str, object] | None) -> np.ndarray:
    """Model weights of each unit of one bank, in thirds of a weight so that gate+up and down stay whole."""
    given = np.atleast_1d(np.asarray(1 if weights is None else weights[name], dtype=np.int64))
    pair = 3 * given if given.size == 2 else np.array([2, 1]) * given[0]
    return _repeat(pair if "projection" in unit else pair.sum(keepdims=True), experts, unit)


def _repeat(per_expert: np.ndarray, experts: int, unit: str) -> np.ndarray:
    """`[parts, …]` of one expert → `[units, …]` of its bank."""
    if unit.startswith("expert"):
        return np.tile(per_expert, (experts, *[1] * (per_expert.ndim - 1)))
    return per_expert * experts


def _bytes_of(name: str, experts: int, unit: str, sizes: Mapping, bits: Sequence[int]) -> np.ndarray:
    if name not in sizes:
        raise AllocationError(f"sizes hold no bank {name}; give bytes of one expert at each width for every bank.")
    given = np.asarray(sizes[name])
    if given.shape not in ((len(bits),), (len(bits), 2)):
        raise AllocationError(
            f"sizes of bank {name} have the shape {list(given.shape)}; expected [{len(bits)}] "
            f"or, by projection, [{len(bits)}, 2]."
        )
    if "projection" in unit and given.ndim == 1:
        raise AllocationError(f"Unit {unit!r} needs sizes by projection, [widths, 2]; bank {name} has [widths].")
    table = given[np.argsort(bits)].astype(np.int64)
    parts = table.T if table.ndim == 2 else table[None]
    parts = parts if "projection" in unit else parts.sum(axis=0, keepdims=True)
    if (np.diff(parts, axis=1) <= 0).any() or (parts < 0).any():
        raise AllocationError(f"sizes of bank {name} must rise with the width {sorted(bits)}; got {table.tolist()}.")
    return _repeat(parts, experts, unit)


def _pinned(names, experts, starts, units: int, widths, unit: str, pinned) -> np.ndarray:
    """Allowed widths `[G, B]`: all, but for pinned experts, whose unit keeps the pinned width."""
    allowed = np.ones([units, len(widths)], dtype=bool)
    for name, wishes in (pinned or {}).items():
        if name not in names:
            raise AllocationError(f"pinned names the bank {name!r}, which the costs do not hold.")
        bank = names.index(name)
        for expert, width in wishes.items():
            if not 0 <= expert < experts[bank] or width not in widths:
                raise AllocationError(
                    f"pinned: bank {name} has experts 0 to {experts[bank] - 1} and widths {widths}; "
                    f"got expert {expert} at {width} bits."
                )
            parts = 2 if "projection" in unit else 1
            first = int(starts[bank]) + (expert * parts if unit.startswith("expert") else 0)
            allowed[first : first + parts] &= np.asarray(widths) == width
            if not allowed[first : first + parts].any(axis=1).all():
                raise AllocationError(
                    f"pinned: experts of bank {name} are pinned to different widths, but unit {unit!r} gives them one."
                )
    return allowed
