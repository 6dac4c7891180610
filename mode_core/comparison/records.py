"""The noun of comparison: evidence, as tables in a run's folder.

| file | one row |
|---|---|
| `scores.parquet` | a method at a budget: mean of a metric over items of one task and modality, with its interval |
| `paired.parquet` | a method minus another at the same budget, on the same items and draws, with its interval |
| `ranking.parquet` | rank correlation of a method's costs with the truth, per bank and model-wide |
| `truth.parquet` | what quantizing one expert alone does to the answers |
| `evidence.json` | command, settings, versions, seconds, items, draws |
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mode_core.files import atomic_write

FORMAT = "mode-evidence/1"
TABLES: dict[str, tuple[str, ...]] = {
    "scores": (
        *("method", "average_bits", "quantizer", "scope", "shrinkage", "calibration", "task", "modality", "metric"),
        *("value", "low", "high", "items", "packed_bytes"),
    ),
    "paired": (
        *("method", "against", "average_bits", "quantizer", "scope", "shrinkage", "modality", "metric"),
        *("difference", "low", "high"),
    ),
    "ranking": ("method", "calibration", "bank", "bits", "modality", "spearman", "low", "high"),
    "truth": ("bank", "expert", "bits", "modality", "kl"),
}
SINCE = {"shrinkage": 0.0}  # columns that older tables lack, and what they would hold


class EvidenceError(ValueError):
    """Evidence that cannot be read, with the file and what to do."""


@dataclass(frozen=True)
class Evidence:
    """Tables of one comparison, columns as in `TABLES`, and how it was made (`info`).

    In `scores`, `calibration` is the number of the calibration draw, −1 the mean over draws; `task` "all" and
    `modality` "all" are means over all items. In `paired` a negative difference of `kl`, or a positive one of
    `accuracy` and `agreement`, speaks for `method`; its rival is taken without shrinkage. All intervals are 95 %.
    """

    scores: pd.DataFrame
    paired: pd.DataFrame
    ranking: pd.DataFrame
    truth: pd.DataFrame
    info: Mapping[str, Any]

    def save(self, folder: str | Path) -> None:
        """Write the tables and evidence.json, which comes last: a folder with it is complete."""
        folder = Path(folder)
        (folder / "evidence.json").unlink(missing_ok=True)
        for name in TABLES:
            content = io.BytesIO()
            getattr(self, name).to_parquet(content, index=False, compression="zstd")
            atomic_write(folder / f"{name}.parquet", content.getvalue())
        text = json.dumps(dict(self.info) | {"format": FORMAT}, indent=1, ensure_ascii=False)
        atomic_write(folder / "evidence.json", text + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> Evidence:
        """Read what `save` wrote.

        Raises:
            EvidenceError: a file is missing, damaged, or of another kind; the text names it.
        """
        folder = Path(folder)
        try:
            info = json.loads((folder / "evidence.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise EvidenceError(f"{folder} holds no evidence; make it with 'python -m mode_core compare'.") from None
        except (UnicodeDecodeError, json.JSONDecodeError) as broken:
            raise EvidenceError(f"{folder / 'evidence.json'} is damaged ({broken}); compare again.") from None
        if not isinstance(info, dict) or info.get("format") != FORMAT:
            raise EvidenceError(f"{folder / 'evidence.json'} is no evidence (no 'format': '{FORMAT}').")
        return cls(**{name: _table(folder / f"{name}.parquet", columns) for name, columns in TABLES.items()}, info=info)


def _table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    import pyarrow

    try:
        table = pd.read_parquet(path)
    except FileNotFoundError:
        raise EvidenceError(f"{path} is missing; copy the run's evidence folder whole, or compare again.") from None
    except (pyarrow.ArrowInvalid, OSError) as broken:
        raise EvidenceError(f"{path} is damaged ({str(broken).splitlines()[0]}); compare again.") from None
    for name in SINCE.keys() & set(columns) - set(table):
        table[name] = SINCE[name]
    if missing := [name for name in columns if name not in table]:
        raise EvidenceError(f"{path} has no column {missing[0]!r}; compare again.")
    return table
