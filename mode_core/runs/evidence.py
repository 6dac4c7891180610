"""Evidence: what a comparison of methods measured, as tables in a run's folder.

| file | one row |
|---|---|
| `scores.parquet` | a method at a budget: mean of a metric over items of one task and modality, with its interval |
| `paired.parquet` | a method minus another at the same budget, on the same items, how sure, how many of them differ |
| `ranking.parquet` | rank correlation of a method's costs with the truth, per bank and model-wide |
| `truth.parquet` | what quantizing one expert alone does to the answers |
| `evidence.json` | command, settings, versions, seconds, items, draws |
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from typing_extensions import TypedDict

from mode_core.errors import EvidenceError
from mode_core.files import atomic_write
from mode_core.importance import METHODS
from mode_core.json_files import OPEN, Amount, Count, Width, check_format, checked, read_json, write_json

FORMAT = "mode-evidence/1"
NEXT = ".{}.next"  # a table that is whole, but not yet named by evidence.json
WORDS = ("method", "against", "quantizer", "scope", "task", "modality", "metric", "bank")  # columns of text
TABLES: dict[str, tuple[str, ...]] = {
    "scores": (
        *("method", "average_bits", "quantizer", "scope", "shrinkage", "calibration", "task", "modality", "metric"),
        *("value", "low", "high", "items", "packed_bytes"),
    ),
    "paired": (
        *("method", "against", "average_bits", "quantizer", "scope", "shrinkage", "modality", "metric"),
        *("difference", "low", "high", "apart"),
    ),
    "ranking": ("method", "calibration", "bank", "bits", "modality", "spearman", "low", "high"),
    "truth": ("bank", "expert", "bits", "modality", "kl"),
}
SINCE = {"shrinkage": 0.0, "apart": float("nan")}  # columns that older tables lack, and what they would hold


class _Asked(TypedDict, total=False):
    """Of what every method was asked with, what is told."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    widths: list[Width]


class _Settings(_Asked, total=False):
    """Earlier versions had the request's fields one by one."""

    request: _Asked


class _Info(TypedDict, total=False):
    """evidence.json; further fields are kept as they are."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    format: str
    tables: dict[Literal[tuple(TABLES)], str]  # type: ignore[valid-type]
    command: str
    settings: _Settings
    calibration_draws: str
    draws: Count
    items_text: Count
    items_vision: Count
    allocations: Count
    measured: Count
    model: str
    seconds: Amount


@dataclass(frozen=True)
class Evidence:
    """Tables of one comparison, columns as in `TABLES`, and how it was made (`info`).

    In `scores`, `calibration` is the number of the calibration draw, −1 the mean over draws; `task` "all" and
    `modality` "all" are means over all items. In `paired` a negative difference of `kl`, or a positive one of
    `accuracy` and `agreement`, speaks for `method`; its rival is taken without shrinkage; `apart` of the items differ
    (nan in evidence of earlier versions). All intervals are 95 %.
    """

    scores: pd.DataFrame
    paired: pd.DataFrame
    ranking: pd.DataFrame
    truth: pd.DataFrame
    info: Mapping[str, Any]

    def save(self, folder: str | Path) -> None:
        """Write tables and evidence.json as one: until evidence.json, which names the tables by their digests, is in
        its place, a reader finds all of the earlier evidence, and from then on all of this."""
        folder, digests = Path(folder), {}
        for name in TABLES:
            content = io.BytesIO()
            getattr(self, name).to_parquet(content, index=False, compression="zstd")
            atomic_write(folder / NEXT.format(name), content.getvalue())
            digests[name] = _digest(content.getvalue())
        write_json(folder / "evidence.json", dict(self.info) | {"format": FORMAT, "tables": digests})
        _settle(folder, digests)

    @classmethod
    def load(cls, folder: str | Path) -> Evidence:
        """Read what `save` wrote.

        Raises:
            EvidenceError: a file is missing, damaged, or of another kind; the text names it.
        """
        folder = Path(folder)
        path = folder / "evidence.json"
        if not path.is_file():
            raise EvidenceError(f"{folder} holds no evidence; make it with 'python -m mode_core compare'.")
        record = read_json(path, EvidenceError)
        check_format(record, FORMAT, path, EvidenceError, "evidence")
        info = checked(record, _Info, path, EvidenceError)
        digests = info.get("tables", {})
        _settle(folder, digests)
        return cls(**{name: _table(folder, name, digests.get(name)) for name in TABLES}, info=info)

    def of_known_methods(self) -> tuple[Evidence, list[str]]:
        """What is of methods that this version knows, and the names of the others, whose rows are left out."""
        kept, strange = {}, set[str]()
        for name in TABLES:
            rows = getattr(self, name)
            known = pd.Series(True, rows.index)
            for column in {"method", "against"} & set(TABLES[name]):
                ours = rows[column].isin(list(METHODS))
                strange |= set(map(str, rows.loc[~ours, column]))
                known &= ours
            kept[name] = rows[known]
        return replace(self, **kept), sorted(strange)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _settle(folder: Path, digests: Mapping[str, str]) -> None:
    """Put tables that evidence.json names already into their places; where a process was killed before, now."""
    for name, digest in digests.items():
        waiting = folder / NEXT.format(name)
        try:
            if waiting.is_file() and _digest(waiting.read_bytes()) == digest:
                waiting.replace(folder / f"{name}.parquet")
        except OSError:  # it may not be written, or another reader was faster: either place will do
            continue


def _table(folder: Path, name: str, digest: str | None) -> pd.DataFrame:
    """One table, its columns as `TABLES` has them and of the right kinds; of earlier evidence without its digest."""
    path = folder / f"{name}.parquet"
    for place in (path, folder / NEXT.format(name)):
        content = place.read_bytes() if place.is_file() else None
        if content is not None and digest in (None, _digest(content)):
            break
    else:
        if path.is_file():
            raise EvidenceError(f"{path} is damaged, or not of this evidence.json; compare again.")
        raise EvidenceError(f"{path} is missing; copy the run's evidence folder whole, or compare again.")
    import pyarrow

    try:
        table = pd.read_parquet(io.BytesIO(content))
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError, MemoryError) as broken:
        reason = (str(broken) or type(broken).__name__).splitlines()[0][:200]
        raise EvidenceError(f"{path} is damaged ({reason}); compare again.") from None
    for column in SINCE.keys() & set(TABLES[name]) - set(table):
        table[column] = SINCE[column]
    if missing := [column for column in TABLES[name] if column not in table]:
        raise EvidenceError(f"{path} has no column {missing[0]!r}; compare again.")
    for column in TABLES[name]:
        numbers = pd.api.types.is_numeric_dtype(table[column]) and not pd.api.types.is_bool_dtype(table[column])
        if len(table) and numbers == (column in WORDS):
            raise EvidenceError(f"{path} is damaged: column {column!r} holds {table[column].dtype}; compare again.")
    return table
