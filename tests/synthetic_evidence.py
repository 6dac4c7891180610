"""Synthetic evidence in the shape of a comparison, seeded: for tests and benchmarks only, never shown as a measurement.

`mode` beats `frequency` on text surely, and is level with it on pictures; uniform bits are worst.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from mode_core.runs.evidence import Evidence
from mode_core.statistics import ExpertStatistics

METHODS = ("mode", "frequency", "uniform", "mc")
BUDGETS = (2.0, 2.5, 3.0, 3.5)
WORSE = {"mode": 0.0, "mc": 0.03, "frequency": 0.04, "uniform": 0.09}
REACH = 0.015  # half an interval


def synthetic_evidence(statistics: ExpertStatistics, seed: int = 0) -> Evidence:
    """Four methods at four budgets, three modalities, three metrics; truth at 2 bits with noise."""
    draw = np.random.default_rng(seed)
    info = {"items_text": 60, "items_vision": 60, "draws": 2, "seconds": 60.0, "made": "synthetic, for tests"}
    info |= {"settings": {"widths": [1, 2, 3, 4]}}
    return Evidence(_scores(), _paired(), _ranking(), _truth(statistics, draw), info)


def _loss(method: str, bits: float, modality: str) -> float:
    behind = WORSE[method] * (0.1 if modality == "vision" and method == "frequency" else 1.0)
    return (0.05 + behind) * 4.0 ** (2 - bits)


def _value(method: str, bits: float, modality: str, metric: str) -> float:
    loss = _loss(method, bits, modality)
    return {"kl": loss, "accuracy": 0.95 - loss, "agreement": 0.98 - loss}[metric]


def _scores() -> pd.DataFrame:
    rows = [
        {"method": method, "average_bits": bits, "quantizer": "rtn", "scope": "bank", "calibration": calibration,
         "task": "all", "modality": modality, "metric": metric, "value": _value(method, bits, modality, metric),
         "low": _value(method, bits, modality, metric) - REACH, "high": _value(method, bits, modality, metric) + REACH,
         "items": 120, "packed_bytes": 1000}
        for method in METHODS for bits in BUDGETS for calibration in (-1, 0, 1)
        for modality in ("all", "text", "vision") for metric in ("accuracy", "kl", "agreement")
    ]  # fmt: skip
    return pd.DataFrame(rows)


def _paired() -> pd.DataFrame:
    rows = []
    for method in METHODS:
        for against in ("frequency", "uniform", "mode"):
            for bits in BUDGETS if method != against else ():
                for modality in ("all", "text", "vision"):
                    for metric in ("accuracy", "kl", "agreement"):
                        gap = _value(method, bits, modality, metric) - _value(against, bits, modality, metric)
                        rows.append({"method": method, "against": against, "average_bits": bits, "quantizer": "rtn",
                                     "scope": "bank", "shrinkage": 0.0, "modality": modality, "metric": metric,
                                     "difference": gap, "low": gap - REACH, "high": gap + REACH,
                                     "apart": 60})  # fmt: skip
    return pd.DataFrame(rows)


def _ranking() -> pd.DataFrame:
    rows = [
        {"method": method, "calibration": -1, "bank": "all", "bits": 2, "modality": modality,
         "spearman": 0.8 - 6 * WORSE[method], "low": 0.7 - 6 * WORSE[method], "high": 0.85 - 6 * WORSE[method]}
        for method in METHODS if method != "uniform" for modality in ("all", "text", "vision")
    ]  # fmt: skip
    return pd.DataFrame(rows)


def _truth(statistics: ExpertStatistics, draw: np.random.Generator) -> pd.DataFrame:
    rows = [
        {"bank": bank.name, "expert": expert, "bits": 2, "modality": modality, "kl": float(np.exp(draw.normal(-6, 1)))}
        for bank in statistics for expert in range(bank.shape.experts) for modality in ("all", "text", "vision")
    ]  # fmt: skip
    return pd.DataFrame(rows)
