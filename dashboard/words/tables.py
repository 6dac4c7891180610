"""Records to tidy tables: one row per expert (and width), columns in words, for showing and for CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from dashboard.charts.grids import Axes
from dashboard.charts.measures import FrequencyGrid, SensitivityGrid, starved_cells
from mode_core.allocation import Frontier
from mode_core.importance.bias import busiest_ranks
from mode_core.importance.records import CostTable
from mode_core.modalities import ALL, TEXT_TOKENS


def _places(axes: Axes) -> dict[str, np.ndarray]:
    """layer, bank and expert of every expert, in the order of the banks."""
    counts = np.asarray(axes.experts)
    return {
        "layer": np.repeat(axes.layers, counts),
        "bank": np.repeat(axes.names, counts),
        "expert": np.concatenate([np.arange(count) for count in counts]),
    }


def starved_table(grid: FrequencyGrid) -> pd.DataFrame:
    """The experts that counting all tokens would starve, furthest fallen first, with both of their ranks."""
    rows, experts = np.nonzero(starved_cells(grid))
    held = {"layer": np.asarray(grid.axes.layers)[rows], "bank": np.asarray(grid.axes.names)[rows], "expert": experts}
    for kind, name in ((TEXT_TOKENS, "rank for text"), (ALL, "rank for all tokens")):
        held[name] = busiest_ranks(grid.shares[kind])[rows, experts].astype(int)
    fallen = held["rank for text"] - held["rank for all tokens"]
    return pd.DataFrame(held).iloc[np.argsort(fallen, kind="stable")].reset_index(drop=True)


def _flat(axes: Axes, grid: np.ndarray) -> np.ndarray:
    """`[L, E]` without the cells beyond each bank's experts."""
    return grid[np.arange(grid.shape[1])[None] < np.asarray(axes.experts)[:, None]]


def frequency_table(grid: FrequencyGrid) -> pd.DataFrame:
    """One row per expert: share (of its bank, empty where no such token came) and tokens, by kind of token."""
    columns = _places(grid.axes)
    for kind in grid.shares:
        columns[f"{kind}_share"] = _flat(grid.axes, grid.shares[kind])
        columns[f"{kind}_tokens"] = _flat(grid.axes, grid.counts[kind]).round().astype(np.int64)
    return pd.DataFrame(columns)


def sensitivity_table(grid: SensitivityGrid) -> pd.DataFrame:
    """One row per expert and width: squared error on text, all vision and key vision tokens."""
    parts = []
    for column, bits in enumerate(grid.bits):
        rows = _places(grid.axes) | {"bits": bits}
        rows |= {f"{kind}_error": _flat(grid.axes, error[..., column]) for kind, error in grid.errors.items()}
        rows |= {f"{kind}_measured_tokens": _flat(grid.axes, grid.support[kind]) for kind in grid.errors}
        parts.append(pd.DataFrame(rows))
    return pd.concat(parts, ignore_index=True)


def allocation_table(axes: Axes, bits: Mapping[str, np.ndarray], costs: CostTable | None = None) -> pd.DataFrame:
    """One row per expert: its bits, and the predicted damage at them where costs are given."""
    columns = _places(axes) | {"bits": np.concatenate([bits[name] for name in axes.names])}
    if costs is not None:
        taken = costs.at(bits)
        columns["predicted_damage"] = np.concatenate([taken[name] for name in axes.names])
    return pd.DataFrame(columns)


def damage_by_bank(axes: Axes, costs: CostTable, bits: Mapping[str, np.ndarray]) -> np.ndarray:
    """Predicted damage of each bank under these bits, `[L]`."""
    taken = costs.at(bits)
    return np.array([taken[name].sum() for name in axes.names])


def counts_table(axes: Axes, bits: Mapping[str, np.ndarray], widths: Sequence[int]) -> pd.DataFrame:
    """One row per bank: how many of its experts have each width."""
    counts = {f"experts_at_{width}_bits": [int((bits[name] == width).sum()) for name in axes.names]
              for width in sorted(set(widths))}  # fmt: skip
    return pd.DataFrame({"layer": axes.layers, "bank": axes.names} | counts)


def profile_table(shares: Mapping[str, np.ndarray], counts: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """One row per expert of one bank: share and tokens of every kind, `[E]` each."""
    columns: dict[str, np.ndarray] = {"expert": np.arange(shares[TEXT_TOKENS].size)}
    for kind in shares:
        columns |= {f"{kind}_share": shares[kind], f"{kind}_tokens": counts[kind].round().astype(np.int64)}
    return pd.DataFrame(columns)


def errors_table(
    bits: Sequence[int], errors: Mapping[str, np.ndarray], median: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    """One row per width: one expert's squared error and the median of its bank, `[B]` by kind of token."""
    columns = {f"{kind}_error": values for kind, values in errors.items()}
    return pd.DataFrame({"bits": list(bits)} | columns | {f"{kind}_median": values for kind, values in median.items()})


def moves_table(axes: Axes, before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Experts whose bits differ: layer, bank, expert, bits before and after, largest moves first."""
    rows = pd.DataFrame(
        _places(axes)
        | {
            "bits_before": np.concatenate([before[name] for name in axes.names]),
            "bits_after": np.concatenate([after[name] for name in axes.names]),
        }
    )
    rows = rows[rows["bits_before"] != rows["bits_after"]]
    size = (rows["bits_after"] - rows["bits_before"]).abs()
    return rows.loc[size.sort_values(ascending=False, kind="stable").index].reset_index(drop=True)


def bias_table(axes: Axes, measures: Mapping[str, Sequence[float]]) -> pd.DataFrame:
    """One row per bank, one column per measure."""
    return pd.DataFrame({"layer": axes.layers, "bank": axes.names} | {name: list(v) for name, v in measures.items()})


def frontier_table(curve: Frontier) -> pd.DataFrame:
    """One row per budget: average bits, predicted damage, its lower bound, and megabytes where sizes are known."""
    columns = {
        "average_bits": curve.average_bits,
        "predicted_damage": curve.objective,
        "lower_bound": curve.lower_bound,
    }
    if curve.bytes is not None:
        columns["megabytes"] = curve.bytes / 1e6
    return pd.DataFrame(columns)


def task_table(counts: Mapping[str, np.ndarray], experts: np.ndarray) -> pd.DataFrame:
    """One row per task and expert of a bank, experts in this order: `counts[task]` are selections `[E]`."""
    parts = [
        {"task": task, "expert": experts, "selections": held[experts].astype(np.int64),
         "times an even share": held[experts] * len(held) / held.sum()}
        for task, held in counts.items()
    ]  # fmt: skip
    return pd.concat([pd.DataFrame(part) for part in parts], ignore_index=True)
