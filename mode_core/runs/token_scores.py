"""How important each vision token of a few samples is: one safetensors file of a run, and what a reader is given."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NotRequired

import numpy as np
from annotated_types import Len
from typing_extensions import TypedDict

from mode_core.errors import RunError
from mode_core.files import atomic_write, tensor_bytes
from mode_core.json_files import OPEN, Amount, Grid, Name, shortened
from mode_core.runs.records import read_of_samples

FORMAT = "mode-token-scores/2"  # /1 where no sample has audio tokens, as it always was
FIRST = "mode-token-scores/1"


@dataclass(frozen=True)
class TokenScores:
    """Importance of one sample's vision tokens: `scores[signal]` float32 `[banks, N]`, higher = kept first.

    `banks` are the bank names of the rows. `grids` lists (rows, columns) of tokens per image, in the order of the N
    tokens; None where the model's processor does not tell where a token lies. `audio[signal]` `[banks, A]` is the
    importance of its audio tokens, `sounds` (tokens, seconds) of each of its sounds.
    """

    sample: str
    banks: tuple[str, ...]
    scores: dict[str, np.ndarray]
    grids: tuple[tuple[int, int], ...] | None
    audio: dict[str, np.ndarray] = field(default_factory=dict)
    sounds: tuple[tuple[int, float], ...] = ()


class _Sample(TypedDict):
    """What the file says of one sample."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    sample: Name
    banks: list[Name]
    grids: list[Grid] | None
    sounds: NotRequired[list[Annotated[list[Amount], Len(2, 2)]]]


AUDIO_PART = "|audio"  # what the name of a tensor ends in that is of audio tokens


def write_token_scores(path: Path, scores: Sequence[TokenScores]) -> None:
    """Write the scores of these samples, atomically."""
    tensors = {
        f"{number}|{signal}{part}": array.astype(np.float32)
        for number, entry in enumerate(scores)
        for part, held in (("", entry.scores), (AUDIO_PART, entry.audio))
        for signal, array in held.items()
    }
    header = [
        {"sample": s.sample, "banks": list(s.banks), "grids": s.grids} | ({"sounds": s.sounds} if s.sounds else {})
        for s in scores
    ]
    version = FORMAT if any(s.audio for s in scores) else FIRST
    atomic_write(path, tensor_bytes(tensors, {"format": version, "token_scores": json.dumps(header)}))


def read_token_scores(path: Path) -> dict[str, TokenScores]:
    """What `write_token_scores` wrote, by sample; empty where there is no file.

    Raises:
        RunError: the file is damaged or newer; the text names the field.
    """
    tensors, header = read_of_samples(path, "token_scores", FORMAT, list[_Sample], unnamed=FIRST, older=(FIRST,))
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
    sounds = tuple((int(tokens), float(seconds)) for tokens, seconds in entry.get("sounds", ()))
    audio = {name.removesuffix(AUDIO_PART): held for name, held in scores.items() if name.endswith(AUDIO_PART)}
    vision = {name: held for name, held in scores.items() if not name.endswith(AUDIO_PART)}
    banks = len(entry["banks"])
    kinds = ((vision, sum(rows * columns for rows, columns in grids or ())), (audio, sum(n for n, _ in sounds)))
    for held, places in kinds if audio else kinds[:1]:
        shapes = {array.shape for array in held.values()}
        if not held and audio:
            continue
        if len(shapes) != 1 or not (len(shape := shapes.pop()) == 2 and shape[0] == banks and shape[1] >= places):
            raise RunError(
                f"{path} is damaged: scores of {shortened(entry['sample'])}: expected one row for each of {banks} "
                f"banks, and at least {places} tokens."
            )
    return TokenScores(entry["sample"], tuple(entry["banks"]), vision, grids, audio, sounds)
