"""From item scores to the tables of evidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mode_core.comparison.bootstrap import Resamples, bounds
from mode_core.comparison.items import ItemScores
from mode_core.comparison.plan import Entry
from mode_core.comparison.settings import AGAINST
from mode_core.importance import METHODS
from mode_core.modalities import ALL
from mode_core.modalities import MODALITIES as KNOWN
from mode_core.runs.evidence import TABLES

METRICS = ("accuracy", "kl", "agreement")
MODALITIES = (*KNOWN, ALL)
MEAN = -1  # number of the calibration draw in rows that are means over draws


@dataclass(frozen=True)
class Measured:
    """Scores of all entries: `values[metric]` float32 `[C, D, n]` for C combinations of method, scope, budget and
    shrinkage."""

    combinations: list[tuple[str, str, float, float]]
    bytes: np.ndarray  # [C, D]
    values: dict[str, np.ndarray]

    @classmethod
    def of(cls, entries: Sequence[Entry], scores: Callable[[Entry], ItemScores]) -> Measured:
        """Put the entries' scores in order; every combination is there for every draw."""
        combinations = list(dict.fromkeys(map(_combination, entries)))
        place = {combination: number for number, combination in enumerate(combinations)}
        draws = 1 + max(entry.draw for entry in entries)
        size = np.zeros([len(combinations), draws], dtype=np.int64)
        found: dict[str, np.ndarray] = {}
        for entry in entries:
            row, own = place[_combination(entry)], scores(entry)
            size[row, entry.draw] = entry.allocation.bytes or 0
            for metric in METRICS:
                values = getattr(own, metric)
                table = found.setdefault(metric, np.zeros([*size.shape, len(values)], dtype=np.float32))
                table[row, entry.draw] = values
        return cls(combinations, size, found)


def _combination(entry: Entry) -> tuple[str, str, float, float]:
    return entry.method, entry.scope, entry.average_bits, entry.shrinkage


@dataclass(frozen=True)
class Group:
    """Some of the items: those of a task, of a modality, or all."""

    task: str
    modality: str
    mask: np.ndarray


def groups_of(tasks: np.ndarray, modalities: np.ndarray) -> list[Group]:
    """All items, those of each modality that is there, and those of each task."""
    masks = {name: np.ones(len(tasks), bool) if name == ALL else modalities == name for name in MODALITIES}
    groups = [Group(ALL, name, mask) for name, mask in masks.items() if mask.any()]
    for task, modality in dict.fromkeys(zip(tasks.tolist(), modalities.tolist(), strict=True)):
        if task:
            groups.append(Group(task, modality, (tasks == task) & (modalities == modality)))
    return groups


def score_tables(
    measured: Measured, tasks: np.ndarray, modalities: np.ndarray, quantizer: str, resamples: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables `scores` and `paired`. Single tasks are given as means over draws only."""
    strata = [f"{task}|{modality}" for task, modality in zip(tasks, modalities, strict=True)]
    redrawn = Resamples(strata, measured.bytes.shape[1], resamples, seed)
    rows: list[dict] = []
    pairs: list[dict] = []
    for group in groups_of(tasks, modalities):
        for metric in METRICS:
            values = measured.values[metric]
            each = redrawn.of_draws(values, group.mask)
            over = redrawn.over_draws(each)
            points = values[..., group.mask].mean(axis=-1, dtype=np.float64)
            shared = {"quantizer": quantizer, "task": group.task, "modality": group.modality, "metric": metric}
            shared["items"] = int(group.mask.sum())
            rows += _rows(measured, shared, MEAN, points.mean(axis=1), over, measured.bytes.mean(axis=1))
            if group.task == ALL:
                for draw in range(each.shape[1]):
                    rows += _rows(measured, shared, draw, points[:, draw], each[:, draw], measured.bytes[:, draw])
                pairs += _pairs(measured, shared, points.mean(axis=1), over, values[..., group.mask].sum(axis=1))
    return _frame(rows, "scores"), _frame(pairs, "paired")


def _rows(
    measured: Measured, shared: Mapping, draw: int, point: np.ndarray, resampled: np.ndarray, size: np.ndarray
) -> list[dict]:
    low, high = bounds(resampled)
    return [
        {
            "method": method,
            "average_bits": average,
            "scope": scope,
            "shrinkage": shrinkage,
            "calibration": draw,
            "value": float(point[row]),
            "low": float(low[row]),
            "high": float(high[row]),
            "packed_bytes": round(float(size[row])),
            **shared,
        }
        for row, (method, scope, average, shrinkage) in enumerate(measured.combinations)
    ]


def _pairs(
    measured: Measured, shared: Mapping, point: np.ndarray, resampled: np.ndarray, items: np.ndarray
) -> list[dict]:
    """Every method in its natural scope against the rivals in theirs, as they are, and against itself without
    shrinkage. `items` `[C, n]`: what each item has over all draws; two differ in as many as have another value."""
    place = {combination: row for row, combination in enumerate(measured.combinations)}
    pairs = []
    for (method, scope, average, shrinkage), row in place.items():
        for against in dict.fromkeys((*AGAINST, method)):
            other = place.get((against, METHODS[against].scopes[0], average, 0.0))
            if other in (None, row) or scope != METHODS[method].scopes[0]:
                continue
            low, high = bounds(resampled[row] - resampled[other])
            difference = float(point[row] - point[other])
            record = {"method": method, "against": against, "average_bits": average, "scope": scope}
            record |= {"shrinkage": shrinkage, "difference": difference, "low": float(low), "high": float(high)}
            record["apart"] = int((items[row] != items[other]).sum())
            pairs.append(record | dict(shared))
    return pairs


def _frame(rows: list[dict], table: str) -> pd.DataFrame:
    """Columns in the order of `TABLES`, numbers no wider than they need."""
    frame = pd.DataFrame(rows, columns=list(TABLES[table]))
    floats = frame.select_dtypes("float64").columns.drop(["average_bits", "shrinkage"], errors="ignore")
    return frame.astype(dict.fromkeys(floats, "float32"))
