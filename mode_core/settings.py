"""Frozen settings that travel: as a dictionary, as a digest, and as words of the command line.

Every field names its flag, from which the command line's parsers are made (`mode_core.cli.arguments`).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any, Self

from mode_core.errors import ModeError, SettingsError
from mode_core.json_files import shortened


def _plain(value: Any) -> list[str]:
    many = value if isinstance(value, tuple) else (value,)
    return [repr(one) if isinstance(one, float) else str(one) for one in many]


def setting(
    default: Any,
    flag: str = "",
    words: str = "",
    say: Callable[[Any], list[str]] | None = None,
    least: float | None = None,
    **argument: Any,
) -> Any:
    """A field with its flag: `words` are its help, `say` turns a value that is not the default into words after the
    flag (None: into `str` of each; a list that begins with a dash stands for itself), `least` is the smallest number
    that makes sense, `argument` goes to argparse."""
    told = {"flag": flag, "words": words, "say": say or _plain, "least": least, "argument": argument}
    return field(default=default, metadata=told)


@dataclass(frozen=True)
class Settings:
    """A frozen dataclass of `setting`s that travels: as a dictionary, a digest, and words of the command line.

    Raises:
        SettingsError: at birth, a number below the least that makes sense, or no finite one.
    """

    def __post_init__(self) -> None:
        for one in fields(self):
            least, value = one.metadata.get("least"), getattr(self, one.name)
            if least is not None and value is not None and not least <= value < math.inf:
                unset = one.metadata["argument"].get("unset")
                other = f", or None for {unset}" if one.default is None else ""
                raise SettingsError(f"{one.name} must be at least {least}{other}; got {value!r}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """Back from `to_dict`; what a record of an earlier version does not say is on its default.

        Raises:
            SettingsError: a name that is none of the fields, or a value that makes no sense.
        """
        known = [one.name for one in fields(cls)]
        if unknown := [name for name in record if name not in known]:
            raise SettingsError(f"{cls.__name__} has no {unknown[0]!r}; expected some of {', '.join(known)}.")
        try:
            return cls(**record)
        except (TypeError, LookupError, AttributeError, OverflowError, ValueError) as odd:  # another type
            if isinstance(odd, ModeError):
                raise
            raise SettingsError(f"{cls.__name__} cannot be made of {shortened(dict(record), 200)}: {odd}.") from None

    @cached_property
    def digest(self) -> str:
        """Name of these settings: equal ones have the same, in every process."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]

    def to_arguments(self) -> list[str]:
        """The words of the command line that say the same, without what is on its default."""
        words: list[str] = []
        for one in fields(self):
            value = getattr(self, one.name)
            if one.metadata.get("flag") and value != one.default:
                said = one.metadata["say"](value)
                words += said if said and said[0].startswith("--") else [one.metadata["flag"], *said]
        return words
