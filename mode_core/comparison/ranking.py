"""How well a method's ranking of experts agrees with the truth: Spearman's correlation with measured losses.

The truth of an expert is what quantizing it alone does to the answers: the mean KL to the original, over text-only
items, over items with a picture, and over all. A method's word is its cost for the same expert at the same width.
Intervals redraw the experts (and, for the mean over calibration draws, the draws) with replacement.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from mode_core.comparison.bootstrap import bounds
from mode_core.comparison.items import ItemScores
from mode_core.comparison.plan import costs_of
from mode_core.comparison.settings import ComparisonSettings
from mode_core.comparison.tables import MEAN, MODALITIES
from mode_core.importance import CostTable
from mode_core.importance.bias import spearman
from mode_core.modalities import ALL
from mode_core.runs.evidence import TABLES
from mode_core.statistics import ExpertStatistics

Truth = Mapping[tuple[str, int, int], ItemScores]  # (bank, expert, width) -> scores with that expert alone quantized
RESAMPLES = 500


def truth_table(truth: Truth, modalities: np.ndarray) -> pd.DataFrame:
    """The table `truth`: mean KL over the items of each modality, per expert and width."""
    masks = {name: np.ones(len(modalities), bool) if name == ALL else modalities == name for name in MODALITIES}
    rows = [
        {"bank": bank, "expert": expert, "bits": width, "modality": modality, "kl": float(scores.kl[mask].mean())}
        for (bank, expert, width), scores in truth.items()
        for modality, mask in masks.items()
        if mask.any()
    ]
    return pd.DataFrame(rows, columns=list(TABLES["truth"])).astype({"kl": "float32"})


def ranking_table(
    draws: Sequence[ExpertStatistics], settings: ComparisonSettings, truth: pd.DataFrame, seed: int = 0
) -> pd.DataFrame:
    """The table `ranking`: per bank, and over all experts of the model ("all").

    A correlation that does not exist, since a method gives all experts the same cost, has no row.
    """
    rows: list[dict] = []
    costs = {
        method: [costs_of(one, method, settings, number) for number, one in enumerate(draws)]
        for method in settings.methods
    }
    for bank, width, modality, real in _truths(truth):
        random = np.random.default_rng(seed)
        experts = random.integers(0, len(real), [RESAMPLES, len(real)])
        redrawn = random.integers(0, len(draws), [RESAMPLES, len(draws)])
        for method in settings.methods:
            said = np.stack([_said(table, bank, width) for table in costs[method]])
            point = np.array([spearman(own, real) for own in said])
            if np.isnan(point).any():
                continue
            each = spearman(said[:, experts], np.broadcast_to(real[experts], said[:, experts].shape))
            shared = {"method": method, "bank": bank, "bits": width, "modality": modality}
            over = np.take_along_axis(each.T, redrawn, axis=1).mean(axis=1)
            for draw, value, values in ((MEAN, point.mean(), over), *zip(range(len(draws)), point, each, strict=True)):
                low, high = bounds(values)
                numbers = {"spearman": float(value), "low": float(low), "high": float(high)}
                rows.append(shared | {"calibration": draw} | numbers)
    frame = pd.DataFrame(rows, columns=list(TABLES["ranking"]))
    return frame.astype({"spearman": "float32", "low": "float32", "high": "float32"})


def _truths(truth: pd.DataFrame) -> Iterator[tuple[str, int, str, np.ndarray]]:
    """(bank or "all", width, modality, KL of its experts in order)."""
    for (width, modality), part in truth.groupby(["bits", "modality"], sort=False):
        yield ALL, int(width), str(modality), part["kl"].to_numpy(dtype=float)
        for bank, own in part.groupby("bank", sort=False):
            yield str(bank), int(width), str(modality), own["kl"].to_numpy(dtype=float)


def _said(costs: CostTable, bank: str, width: int) -> np.ndarray:
    """A method's costs at one width, of one bank's experts or of all in the order of the model."""
    names = tuple(costs) if bank == ALL else (bank,)
    return np.concatenate([costs[name][:, costs.bits.index(width)] for name in names])
