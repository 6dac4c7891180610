"""Values of an entry: which count as given, and how they are told of without printing a picture's bytes."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mode_core.samples.images import SampleError

MAX_LIST = 100_000  # characters of a list as Python prints it


@dataclass(frozen=True)
class Odd:
    """What software writes into JSON although it means nothing there: `words` tell it (NaN, thousands of digits)."""

    words: str


@dataclass(frozen=True)
class Embedded:
    """A picture that lies in the table itself and is fetched when it is used; None from `fetch`: only `path` is
    given."""

    fetch: Callable[[], bytes | str | None] = field(repr=False)
    path: str | None = None


def given(value: object) -> bool:
    """Is there anything? None, empty text and empty lists are nothing, as is what pandas makes of a missing cell."""
    return not (value is None or (isinstance(value, str | list | tuple | Mapping | bytes) and not value))


def told(value: object) -> str:
    """A value in a message: short, on one line, and never the bytes of a picture."""
    if isinstance(value, str):
        if len(value) <= 80:
            return repr(value)
        begins = f"{value[:24]!r}…" if "." in value else "a text"  # base64 has no dot
        return f"{begins} ({len(value):,} characters)"
    if value is None or isinstance(value, bool | int | float):
        return f"{value}"[:40]
    return value.words if isinstance(value, Odd) else f"a {type(value).__name__}"


def plain_text(value: object, key: str) -> str | None:
    """Text or a number as text; None where nothing is given.

    Raises:
        SampleError: a list, an object, true or false, or no finite number.
    """
    if not given(value):
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not isinstance(value, str) and not number:
        raise SampleError(f"'{key}' must be text or a number; got {told(value)}. Correct it, or leave it out.")
    return str(value)


def listed(cell: str) -> object:
    """A list in JSON or as Python prints it; the text itself where it is neither."""
    try:
        found = json.loads(cell)
        return found if isinstance(found, list) else cell
    except (ValueError, RecursionError):
        pass
    if len(cell) > MAX_LIST:  # too much for a parser, unless it is a list of pictures in base64
        return re.findall(r"['\"]([A-Za-z0-9+/=_-]+)['\"]", cell) or cell
    try:
        found = ast.literal_eval(cell)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return cell
    return found if isinstance(found, list) else cell
