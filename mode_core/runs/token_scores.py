"""How important each vision token of a few samples is: one safetensors file of a run, and what a reader is given."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import TypedDict

from mode_core.errors import RunError
from mode_core.files import atomic_write, tensor_bytes
from mode_core.json_files import OPEN, Grid, Name, shortened
from mode_core.runs.records import read_of_samples

FORMAT = "mode-token-scores/1"


@dataclass(frozen=True)
class TokenScores:
    """Importance of one sample's vision tokens: `scores[signal]` float32 `[banks, N]`, higher = kept first.

    `banks` are the bank names of the rows. `grids` lists (rows, columns) of tokens per image, in the order of the N
    tokens; None where the model's processor does not tell where a token lies.
    """

    sample: str
    banks: tuple[str, ...]
    scores: dict[str, np.ndarray]
    grids: tuple[tuple[int, int], ...] | None


class _Sample(TypedDict):
    """What the file says of one sample."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    sample: Name
    banks: list[Name]
    grids: list[Grid] | None


def write_token_scores(path: Path, scores: Sequence[TokenScores]) -> None:
    """Write the scores of these samples, atomically."""
    tensors = {
        f"{number}|{signal}": array.astype(np.float32)
        for number, entry in enumerate(scores)
        for signal, array in entry.scores.items()
    }
    header = [{"sample": s.sample, "banks": list(s.banks), "grids": s.grids} for s in scores]
    atomic_write(path, tensor_bytes(tensors, {"format": FORMAT, "token_scores": json.dumps(header)}))


def read_token_scores(path: Path) -> dict[str, TokenScores]:
    """What `write_token_scores` wrote, by sample; empty where there is no file.

    Raises:
        RunError: the file is damaged or newer; the text names the field.
    """
    tensors, header = read_of_samples(path, "token_scores", FORMAT, list[_Sample], unnamed=FORMAT)
    scores: list[dict[str, np.ndarray]] = [{} for _ in header]
    for key, array in tensors.items():
        number, _, signal = key.partition("|")
        if not number.isdecimal() or len(number) > 9 or int(number) >= len(header) or array.dtype != np.float32:
            raise RunError(f"{path} is damaged: {shortened(key)}: no float32 scores of a sample that it names.")
        scores[int(number)][signal] = array
    return {entry["sample"]: _of_sample(entry, mine, path) for entry, mine in zip(header, scores, strict=True)}


def _of_sample(entry: dict[str, Any], scores: dict[str, np.ndarray], path: Path) -> TokenScores:
    """The scores of one sample, which must be `[banks, N]` with one N that has room for the grids."""
    grids = None if entry["grids"] is None else tuple((rows, columns) for rows, columns in entry["grids"])
    places, banks = sum(rows * columns for rows, columns in grids or ()), len(entry["banks"])
    shapes = {array.shape for array in scores.values()}
    if len(shapes) != 1 or not (len(shape := shapes.pop()) == 2 and shape[0] == banks and shape[1] >= places):
        raise RunError(
            f"{path} is damaged: scores of {shortened(entry['sample'])}: expected one row for each of {banks} banks, "
            f"and at least {places} tokens."
        )
    return TokenScores(entry["sample"], tuple(entry["banks"]), scores, grids)
