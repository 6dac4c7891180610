"""The records of a run, field by field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NotRequired

import numpy as np
from typing_extensions import TypedDict

from mode_core.errors import RunError
from mode_core.files import read_tensors
from mode_core.json_files import OPEN, Amount, Count, Grid, Name, Time, check_format, checked, parse_json
from mode_core.modalities import VISION_TOKENS

FORMAT = "mode-run/1"
TOKEN_SCORES, TOKEN_ROUTES = "token_scores.safetensors", "token_routes.safetensors"
STATES = ("begun", "half done", "done")


class _Model(TypedDict, total=False):
    __pydantic_config__ = OPEN  # type: ignore[misc]
    source: Name
    name: str
    revision: str | None


class _Origin(TypedDict, total=False):
    __pydantic_config__ = OPEN  # type: ignore[misc]
    path: Name
    images: Name | None
    limit: Count | None
    first: bool
    seed: Count


class _Samples(TypedDict, total=False):
    __pydantic_config__ = OPEN  # type: ignore[misc]
    origin: _Origin
    given: Count
    measured: Count
    digest: str


class _Refused(TypedDict):
    sample: str
    reason: str


class _AnswerKL(TypedDict):
    __pydantic_config__ = OPEN  # type: ignore[misc]
    ids: list[str]


class _Process(TypedDict):
    pid: Count
    host: str


class RunInfo(TypedDict, total=False):
    """run.json; fields that no reader of it knows are kept as they are."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    format: str
    name: str
    state: Literal[STATES]  # type: ignore[valid-type]
    created: Time
    process: _Process
    model: _Model
    samples: _Samples
    refused: list[_Refused]
    settings: dict[str, Any]
    tokens: dict[str, Count]
    video_tokens: Count | None
    seconds: Amount
    peak_memory_bytes: Count
    logit_kl: _AnswerKL
    merged_from: list[str]
    versions: dict[str, str]


def told_of_videos(counts: Iterable[int | None]) -> dict[str, int | None]:
    """What run.json says of the vision tokens that show frames of videos: nothing where there are none, None where they
    could not be told from those of pictures somewhere."""
    held = list(counts)
    return {"video_tokens": None if None in held else sum(filter(None, held))} if any(n != 0 for n in held) else {}


def tokens_in_words(info: Mapping[str, Any]) -> str:
    """ "1,000 text, 600 vision (200 of them of video frames)", by run.json; "" where it tells nothing of tokens."""
    videos = info.get("video_tokens", 0)
    beside = "pictures and video frames together" if videos is None else f"{videos:,} of them of video frames"
    counts = {name: f"{count:,} {name}" for name, count in info.get("tokens", {}).items()}
    if videos != 0 and VISION_TOKENS in counts:
        counts[VISION_TOKENS] += f" ({beside})"
    return ", ".join(counts.values())


class SampleRecord(TypedDict):
    """One sample that is kept to be looked at; `thumbnails` are names of files, `grids` (rows, columns) of tokens."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    id: Name
    thumbnails: list[Name]
    text: str
    answer: NotRequired[str | None]
    task: NotRequired[str | None]
    text_tokens: NotRequired[Count]
    vision_tokens: NotRequired[Count]
    audio_tokens: NotRequired[Count]
    images: NotRequired[list[str]]
    grids: list[Grid] | None


def read_of_samples(
    path: Path, what: str, expected: str, shape: Any, unnamed: str | None = None
) -> tuple[dict[str, np.ndarray], Any]:
    """Tensors of a few samples, and what the header of their file says under `what` in the form of `shape`; nothing
    where there is no file. `unnamed`: the format of files that name none.

    Raises:
        RunError: the file is damaged or newer; the text names the field.
    """
    if not path.is_file():
        return {}, []
    tensors, metadata = read_tensors(path, RunError)
    check_format({"format": metadata.get("format", unnamed)}, expected, path, RunError, what.replace("_", " "))
    return tensors, checked(parse_json(metadata.get(what, "null"), path, RunError), shape, path, RunError)
