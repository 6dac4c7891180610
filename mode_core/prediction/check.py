"""The noun of checking: which estimates come true on one model. Kept in its run as `check.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mode_core.files import atomic_write
from mode_core.importance import Recommendation
from mode_core.prediction.anchor import Anchor

FORMAT = "mode-check/1"


class CheckError(ValueError):
    """A check that cannot be read or made; the text says what to do."""


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

    def of(self, method: str, modality: str = "all") -> Ranking | None:
        """How well a method ranks here; None where it gives every expert the same, or was not available."""
        return next((one for one in self.rankings if (one.method, one.modality) == (method, modality)), None)

    def save(self, path: str | Path) -> None:
        """Write as JSON, atomically; numbers with six digits."""
        record = json.loads(json.dumps(asdict(self)), parse_float=lambda text: float(f"{float(text):.6g}"))
        record |= {"format": FORMAT, "anchor": self.anchor.to_dict()}
        atomic_write(Path(path), json.dumps(record, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Check:
        """Read what `save` wrote.

        Raises:
            CheckError: the file is damaged, or something else.
        """
        try:
            record = json.loads(Path(path).read_text(encoding="utf-8"))
            if record.pop("format", None) != FORMAT:
                raise CheckError(
                    f"{path} is no check (no 'format': '{FORMAT}'); run 'python -m mode_core check' again."
                )
            record |= {name: {k: tuple(v) for k, v in record[name].items()} for name in ("measured", "predicted")}
            record["rankings"] = tuple(Ranking(**row) for row in record["rankings"])
            record["trials"] = tuple(Trial(**row) for row in record["trials"])
            choice, anchor = Recommendation(**record["choice"]), Anchor.from_dict(record["anchor"])
            return cls(**record | {"choice": choice, "anchor": anchor})
        except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, AttributeError) as broken:
            raise CheckError(f"{path} cannot be read ({broken}); run 'python -m mode_core check' again.") from None
