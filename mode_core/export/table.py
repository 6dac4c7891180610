"""One row per expert with everything known about it, as CSV and Parquet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from mode_core.csv_files import csv_of
from mode_core.export.request import Request
from mode_core.importance.frequency import frequencies
from mode_core.importance.sensitivity import measured
from mode_core.importance.stacks import views
from mode_core.modalities import KEY_RATIO, counted_of, kinds_of

FILES = ("experts.csv", "experts.parquet")


def expert_table(request: Request) -> pd.DataFrame:
    """Rows in the order of banks and experts; columns, as far as the request knows them:

    `bank, layer, expert, bits` (by projection `bits_gate_up, bits_down`), `packed_bytes`,
    `frequency_<kind>` (share of selections within the bank), `sensitivity_<text|key|key_audio>_<b>bit` (mean squared
    output error per dimension), `cost_<b>bit`, `cost` (at the chosen bits), `unsupported`. An empty cell means
    that no token of that kind was routed there or that it was not measured; it never stands for zero.
    """
    parts = [_bits(request)]
    if request.statistics is not None:
        parts.append(_measurements(request))
    if request.costs is not None:
        parts.append(_costs(request))
    return pd.concat(parts, axis=1)


def write_table(request: Request, folder: Path) -> None:
    """Write `expert_table` as experts.csv and experts.parquet."""
    table = expert_table(request)
    (folder / FILES[0]).write_text(csv_of(table), encoding="utf-8", newline="")
    table.to_parquet(folder / FILES[1], index=False)


def _bits(request: Request) -> pd.DataFrame:
    sizes = request.packed_bytes()
    frames = []
    for bank, bits in request.allocation.bits.items():
        widths = np.asarray(bits)
        columns = {"bank": bank, "layer": request.layer(bank), "expert": np.arange(len(widths))}
        if widths.ndim == 2:
            columns |= {"bits_gate_up": widths[:, 0], "bits_down": widths[:, 1]}
        else:
            columns["bits"] = widths
        if sizes is not None:
            columns["packed_bytes"] = sizes[bank]
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def _signal(request: Request) -> tuple[float, str]:
    """Key ratio and redundancy signal: those of the costs, else the paper's."""
    settings = request.costs.settings if request.costs is not None else {}
    return float(settings.get("key_ratio", KEY_RATIO)), str(settings.get("signal", request.statistics.signals[0]))


def _measurements(request: Request) -> pd.DataFrame:
    statistics, (ratio, signal) = request.statistics, _signal(request)
    shares = frequencies(statistics, ratio, signal)
    rows: dict[str, dict[str, np.ndarray]] = {}
    for view in views(statistics, ratio, signal):
        for kind in counted_of(statistics.modalities):
            error, support = measured(view, kind), view.sums(kind, "support")
            error = np.where(support[..., None] > 0, error, np.nan)
            for row, bank in enumerate(view.stack.names):
                columns = {
                    f"sensitivity_{kind}_{width}bit": error[row, :, i] for i, width in enumerate(statistics.bits)
                }
                rows.setdefault(bank, {}).update(columns)
    frames = []
    for bank in request.allocation.bits:
        found = shares[bank]
        empty = np.full(len(found.text), np.nan)
        kinds = {
            f"frequency_{kind}": empty if kind in found.empty else getattr(found, kind)
            for kind in kinds_of(statistics.modalities)
        }
        frames.append(pd.DataFrame(kinds | rows[bank]))
    return pd.concat(frames, ignore_index=True)


def _costs(request: Request) -> pd.DataFrame:
    table, frames = request.costs, []
    for bank, bits in request.allocation.bits.items():
        cost, widths = np.asarray(table[bank], dtype=float), np.asarray(bits)
        columns = {f"cost_{width}bit": cost[:, i] for i, width in enumerate(table.bits)}
        if widths.ndim == 1:
            chosen = np.array(table.bits)[None] == widths[:, None]
            columns["cost"] = np.where(chosen.any(axis=1), (cost * chosen).sum(axis=1), np.nan)
        if bank in table.unsupported:
            columns["unsupported"] = table.unsupported[bank]
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)
