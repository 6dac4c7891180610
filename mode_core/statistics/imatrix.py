"""What enters every matrix of the decoder, channel by channel: Σ x² and tokens, by kind of token.

Keys are `<bank>/up` (enters gate and up) and `<bank>/down` for the routed experts, each over its own routed tokens, and
the module's name for any other linear layer. Which vision tokens are key was settled when calibrating, by `key_ratio`
and `signal`; the kinds are kept apart, so weights for them can be chosen afterwards.

Memory and size on disk: `3 × (experts × (hidden + intermediate))` doubles a bank (415 MB for the shapes of
Qwen3-VL-30B-A3B) and `3 × in` for every other layer, 5 in place of 3 where the model hears sounds; it does not grow
with the samples. Bins for every key ratio would take 33 times as much.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Len
from typing_extensions import TypedDict

from mode_core.files import atomic_write, read_tensors, tensor_bytes
from mode_core.json_files import OPEN, checked, parse_json, shortened
from mode_core.modalities import ALL, MODALITIES, USUAL
from mode_core.modalities import KINDS as ALL_KINDS
from mode_core.statistics.bank_statistics import StatisticsError

KINDS = tuple(
    name
    for name, kind in ALL_KINDS.items()
    if kind.modality != ALL and (kind.part != ALL or not MODALITIES[kind.modality].ranked)
)
SHORT = sum(ALL_KINDS[kind].modality in USUAL for kind in KINDS)  # kinds of files that saw no more than these
FILES = "imatrix-*.safetensors"


class _Settings(TypedDict):
    __pydantic_config__ = OPEN  # type: ignore[misc]
    model: str
    key_ratio: float
    signal: str
    family: Annotated[list[str], Len(2, 2)]


class _Header(TypedDict):
    settings: _Settings
    samples: Annotated[list[str], Len(1)]


@dataclass
class InputEnergies:
    """`sums[key]` float64 `[K, E, in]` (E = 1 outside the experts), `counts[key]` `[K, E]`: axes as `KINDS`, of which
    the first three are there where no audio token was seen. `settings` name model, key ratio and signal."""

    sums: dict[str, np.ndarray]
    counts: dict[str, np.ndarray]
    settings: dict[str, object] = field(default_factory=dict)
    samples: tuple[str, ...] = ()

    def __add__(self, other: InputEnergies) -> InputEnergies:
        """Those of both sets of samples.

        Raises:
            StatisticsError: of another model, key ratio or signal.
        """
        if self.settings != other.settings or self.sums.keys() != other.sums.keys():
            raise StatisticsError("Only input energies of the same model and the same settings can be added.")
        sums, counts = (
            {key: _added(mine[key], theirs[key]) for key in mine}
            for mine, theirs in ((self.sums, other.sums), (self.counts, other.counts))
        )
        return InputEnergies(sums, counts, self.settings, self.samples + other.samples)

    def weighted(self, weights: tuple[float, ...]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Σ w·x² `[E, in]` and Σ w `[E]` of every key, w by kind as `KINDS`."""
        w = np.asarray(weights, float)[: len(next(iter(self.counts.values())))]
        return {key: (np.tensordot(w, total, 1), w @ self.counts[key]) for key, total in self.sums.items()}

    def save(self, folder: Path) -> None:
        """Write beside a run's statistics, which are written next; what is older stays until `tidy`."""
        tensors = {f"sums|{key}": value for key, value in self.sums.items()}
        tensors |= {f"counts|{key}": value for key, value in self.counts.items()}
        header = json.dumps({"settings": self.settings, "samples": list(self.samples)})
        name = FILES.replace("*", str(len(self.samples)))
        atomic_write(folder / name, tensor_bytes(tensors, {"imatrix": header}))

    def tidy(self, folder: Path) -> None:
        """Remove what `save` wrote for fewer samples."""
        for path in folder.glob(FILES):
            if path.name != FILES.replace("*", str(len(self.samples))):
                path.unlink()

    @classmethod
    def load(cls, folder: Path, samples: Iterable[str]) -> InputEnergies | None:
        """Those of a run's statistics with these samples; None where there are none.

        Raises:
            StatisticsError: a damaged file.
        """
        wanted = set(samples)
        path = folder / FILES.replace("*", str(len(wanted)))
        if not path.is_file():
            return None
        tensors, metadata = read_tensors(path, StatisticsError)
        header = parse_json(metadata.get("imatrix", "null"), path, StatisticsError)
        header = checked(header, _Header, path, StatisticsError)
        sums, counts = (
            {key[len(part) + 1 :]: value for key, value in tensors.items() if key.startswith(f"{part}|")}
            for part in ("sums", "counts")
        )
        for key in sums.keys() | counts.keys():
            mine, theirs = (tuple(getattr(part.get(key), "shape", ())) for part in (sums, counts))
            fits = len(mine) == 3 and mine[0] in (SHORT, len(KINDS)) and mine[:2] == theirs
            if not fits or sums[key].dtype.kind != "f":
                raise StatisticsError(f"{path} is damaged: {shortened(key)}: its sums and counts do not fit; redo it.")
        found = cls(sums, counts, header["settings"], tuple(header["samples"]))
        return found if set(found.samples) == wanted else None


def _added(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Sum of two arrays by kind, of which one may hold fewer kinds."""
    fewer, more = sorted((one, other), key=len)
    total = more.copy()
    total[: len(fewer)] += fewer
    return total
