"""What the Compare page sets side by side: a method and the truth, one calibration and another; no Streamlit here."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from dashboard.charts.grids import Axes
from dashboard.state.folders import RunEntry, relative
from mode_core.allocation import Allocation
from mode_core.comparison.draws import only_folds
from mode_core.errors import ModeError
from mode_core.importance import METHODS, frequencies
from mode_core.importance.bias import spearman
from mode_core.importance.folds import used_folds
from mode_core.modalities import KINDS, counted_of
from mode_core.run import Run
from mode_core.statistics import ExpertStatistics, fold_of


class NotComparable(ModeError):
    """Two runs that say nothing about each other; the text says why."""


def command(entry: RunEntry, verb: str = "compare", of: str = "--runs") -> str:
    """The command line that measures the evidence of a run, or checks its estimates."""
    return shlex.join(["python", "-m", "mode_core", verb, of, relative(entry.path)])


AT = " λ "  # between a method and how far its costs were drawn to the mean, in names of `by_shrinkage`


def by_shrinkage(rows: pd.DataFrame) -> pd.DataFrame:
    """The same rows with a method of its own for every shrinkage above 0: 'mode λ 0.5'."""
    marks = [f"{AT}{level:g}" if level > 0 else "" for level in rows["shrinkage"]]
    return rows.assign(method=[f"{name}{mark}" for name, mark in zip(rows["method"], marks, strict=True)])


def named(label: Callable[[str], str]) -> Callable[[str], str]:
    """Words for names of `by_shrinkage`, by the words for methods."""
    return lambda name: label(name.partition(AT)[0]) + "".join(name.partition(AT)[1:])


def natural_scope(rows: pd.DataFrame, method: str) -> str:
    """Of the scopes that a method was measured in, the one that it is meant for."""
    held = list(dict.fromkeys(rows.loc[rows["method"] == method, "scope"]))
    return next((scope for scope in METHODS[method.partition(AT)[0]].scopes if scope in held), held[0])


def against_truth(
    statistics: ExpertStatistics, truth: pd.DataFrame, bits: int, modality: str, costs: Mapping[str, np.ndarray]
) -> pd.DataFrame:
    """One row per expert: layer, bank, expert, the method's cost at that width (`costs`: bank → `[E]`), measured KL."""
    rows = truth[(truth["bits"] == bits) & (truth["modality"] == modality) & truth["bank"].isin(list(costs))]
    axes = Axes.of(statistics)
    layers = dict(zip(axes.names, axes.ticks, strict=True))
    rows = rows[[0 <= expert < len(costs[bank]) for bank, expert in zip(rows["bank"], rows["expert"], strict=True)]]
    said = [float(costs[bank][int(expert)]) for bank, expert in zip(rows["bank"], rows["expert"], strict=True)]
    columns = {"layer": rows["bank"].map(layers), "bank": rows["bank"], "expert": rows["expert"]}
    return pd.DataFrame(columns | {"cost": said, "kl": rows["kl"]}).reset_index(drop=True)


def halves(statistics: ExpertStatistics) -> tuple[ExpertStatistics, ExpertStatistics]:
    """The samples of every other fold, and those of the rest, as calibrations of their own.

    Raises:
        ImportanceError: fewer than two folds hold samples.
    """
    used = used_folds(statistics)
    parts, found = [tuple(used[0::2]), tuple(used[1::2])], []
    for part in parts:
        samples = tuple(name for name in statistics.samples if fold_of(name, statistics.folds) in part)
        found.append(replace(only_folds(statistics, part), samples=samples))
    return found[0], found[1]


def pair(
    name: str, statistics: ExpertStatistics, other: str, open_run: Callable[[str], Run]
) -> tuple[ExpertStatistics, ExpertStatistics, tuple[str, str]]:
    """The two calibrations to compare and what to call them; `other` "" takes halves of the open run's samples.

    Raises:
        NotComparable: the other run is of another model, or empty.
        ImportanceError: too few samples for halves.
    """
    if not other:
        return *halves(statistics), ("one half", "the other half")
    second = open_run(other).statistics
    if second is None or not second.samples:
        raise NotComparable(f"The run {other!r} has no finished sample. Choose another one.")
    if [(bank.name, bank.shape.experts) for bank in second] != [(bank.name, bank.shape.experts) for bank in statistics]:
        raise NotComparable(
            f"The run {other!r} is of another model (it has other expert banks), so its bits do not compare. "
            "Choose a run of the same model, or calibrate one with other samples."
        )
    return statistics, second, (name, other)


def flat(allocation: Allocation) -> np.ndarray:
    """Bits of all experts after each other, `[experts]`."""
    return np.concatenate([np.asarray(bits) for bits in allocation.bits.values()])


def order_agreement(
    one: ExpertStatistics, other: ExpertStatistics, key_ratio: float, signal: str
) -> dict[str, np.ndarray]:
    """Rank correlation of the expert frequencies of two calibrations, by kind of token in words → `[L]`.

    NaN where one of the two saw no such token in a bank.
    """
    first, second = (frequencies(each, key_ratio, signal) for each in (one, other))
    found = {}
    for kind in counted_of({*one.modalities} & {*other.modalities}):
        rows = [
            np.nan
            if kind in first[bank].empty | second[bank].empty
            else float(spearman(getattr(first[bank], kind), getattr(second[bank], kind)))
            for bank in first
        ]
        found[KINDS[kind].title] = np.array(rows)
    return found
