"""The noun of checking: which estimates come true on one model. Kept in its run as `check.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from annotated_types import Interval
from typing_extensions import TypedDict

from mode_core.allocation import SCOPES
from mode_core.errors import CheckError
from mode_core.importance import METHODS, Recommendation
from mode_core.json_files import CLOSED, OPEN, Amount, Count, Width, check_format, checked, read_json, write_json
from mode_core.modalities import ALL
from mode_core.prediction.anchor import Anchor

FORMAT = "mode-check/1"


@dataclass(frozen=True)
class Ranking:
    """Spearman's correlation of a method's predicted with measured damage over the groups, on one kind of sample
    ("text": without a picture, "vision", "all"), and its 95 % interval."""

    method: str
    modality: str
    spearman: float
    low: float
    high: float


@dataclass(frozen=True)
class Trial:
    """One allocation, measured: KL to the original's own answers in nats per answer token, by kind of sample, and its
    ratio to uniform bits of the same size over all samples, with the ratio's 95 % interval."""

    method: str
    scope: str
    shrinkage: float
    average_bits: float
    kl: Mapping[str, float]
    ratio: float
    low: float
    high: float


@dataclass(frozen=True)
class Check:
    """How far the estimates may be trusted on one model.

    `measured[kind]`, of G groups: mean KL in nats per answer token with the group's experts at `info["low_bits"]`;
    `predicted[method]`, of the same groups: the summed cost. `rankings` best first (over all samples). `trials`:
    allocations of the best estimates. `choice`: the one whose trials came out lowest. `anchor`: every expert at one
    width on the same samples. `info`: settings, seconds, samples, model, versions.
    """

    measured: Mapping[str, tuple[float, ...]]
    predicted: Mapping[str, tuple[float, ...]]
    rankings: tuple[Ranking, ...]
    trials: tuple[Trial, ...]
    choice: Recommendation
    anchor: Anchor
    info: Mapping[str, Any]

    def of(self, method: str, modality: str = ALL) -> Ranking | None:
        """How well a method ranks here; None where it gives every expert the same, or was not available."""
        return next((one for one in self.rankings if (one.method, one.modality) == (method, modality)), None)

    def save(self, path: str | Path) -> None:
        """Write as JSON, atomically; numbers with six digits."""
        record = {"format": FORMAT} | asdict(self) | {"anchor": self.anchor.to_dict()}
        write_json(Path(path), json.loads(json.dumps(record), parse_float=lambda text: float(f"{float(text):.6g}")))

    @classmethod
    def load(cls, path: str | Path) -> Check:
        """Read what `save` wrote.

        Raises:
            CheckError, PredictionError: the file is missing, damaged, or something else; the text names the field.
        """
        record = read_json(Path(path), CheckError)
        check_format(record, FORMAT, path, CheckError, "check")
        record = dict(checked(record, _Record, path, CheckError))
        groups = {len(own) for own in (*record["measured"].values(), *record["predicted"].values())}
        ranked = {row["method"] for row in record["rankings"]}
        sound = ranked <= set(record["predicted"]) and ALL in record["measured"]
        if len(groups) != 1 or record["choice"]["method"] not in METHODS or not sound:
            raise CheckError(f"{path} is damaged: its groups or its choice do not fit together; check again.")
        record |= {name: {key: tuple(own) for key, own in record[name].items()} for name in ("measured", "predicted")}
        record["rankings"] = tuple(Ranking(**row) for row in record["rankings"])
        record["trials"] = tuple(Trial(**row) for row in record["trials"])
        del record["format"]
        choice, anchor = Recommendation(**record["choice"]), Anchor.from_dict(record["anchor"], path)
        return cls(**record | {"choice": choice, "anchor": anchor})


class _Ranking(TypedDict):
    __pydantic_config__ = CLOSED  # type: ignore[misc]
    method: str
    modality: str
    spearman: float
    low: float
    high: float


class _Trial(TypedDict):
    __pydantic_config__ = CLOSED  # type: ignore[misc]
    method: str
    scope: str
    shrinkage: float
    average_bits: float
    kl: dict[str, float]
    ratio: float
    low: float
    high: float


class _Choice(TypedDict):
    __pydantic_config__ = CLOSED  # type: ignore[misc]
    method: str
    scope: Literal[SCOPES]  # type: ignore[valid-type]
    shrinkage: Annotated[float, Interval(ge=0, le=1)]
    why: str


class _Info(TypedDict):
    """Of how it was checked, what is read again."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    low_bits: NotRequired[Width]
    revision: NotRequired[str | None]
    samples: NotRequired[dict[str, Count]]
    seconds: NotRequired[Amount]


class _Record(TypedDict):
    """check.json."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]
    format: str
    measured: dict[str, list[float]]
    predicted: dict[str, list[float]]
    rankings: list[_Ranking]
    trials: list[_Trial]
    choice: _Choice
    anchor: dict[str, Any]
    info: _Info
