"""JSON as this software writes it and reads it back: bounded, checked field by field, refused in words.

    record = read_json(path, RunError)                        # depth, size and numbers bounded, no NaN
    check_format(record, "mode-run/1", path, RunError)        # a newer one, or something else, is told apart
    record = checked(record, RunInfo, path, RunError)         # every field's type, by a TypedDict of it

A shape is a `TypedDict` of `typing_extensions` (bounds with `Annotated` and `annotated_types`); numbers are never read
from text, nor whole ones from true, false or fractions.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NotRequired, get_args, get_origin, get_type_hints

from annotated_types import Ge, Interval, Le, Len, Predicate
from typing_extensions import TypedDict

from mode_core.errors import ModeError
from mode_core.files import atomic_write

MOST_BYTES = 1 << 29
LARGEST = 1 << 62  # of whole numbers: what numpy and the disk can hold
CLOSED = {"extra": "forbid"}  # `__pydantic_config__` of shapes that take no further field
OPEN = {"extra": "allow"}  # and of those whose further fields are kept as they are


def plain_text(text: str) -> bool:
    """No NUL, which no path and no window can show."""
    return "\0" not in text


def whole_number(text: str) -> bool:
    """Digits as a key of a mapping has them."""
    return text.isascii() and text.isdecimal()


Count = Annotated[int, Interval(ge=0, le=LARGEST)]
Width = Annotated[int, Interval(ge=0, le=16)]
Amount = Annotated[float, Interval(ge=0, le=1e300)]
Name = Annotated[str, Len(1, 4096), Predicate(plain_text)]
Digits = Annotated[str, Len(1, 19), Predicate(whole_number)]
Grid = Annotated[list[Annotated[int, Interval(ge=1, le=1 << 20)]], Len(2, 2)]
Time = Annotated[float, Ge(0), Le(7_258_118_400)]  # seconds since 1970, up to the year 2200


def write_json(path: Path, record: object) -> None:
    """Write a record, atomically; a number that is none (NaN, infinite) is written as null, since JSON has no other."""
    atomic_write(path, json.dumps(_finite(record), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path, error: type[ModeError]) -> Any:
    """The value in a JSON file.

    Raises:
        `error`: no such file, too large, not UTF-8, not JSON, nested too deeply, or with numbers out of bounds.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise error(f"{path} is larger than {MOST_BYTES >> 20} MB, more than this software writes; it is damaged.")
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise error(f"There is no file {path}.") from None
    return parse_json(content, path, error)


def parse_json(content: bytes | str, where: object, error: type[ModeError]) -> Any:
    """The value of a JSON text that lies at `where`; raises as `read_json`."""
    from pydantic_core import from_json

    try:
        value = from_json(content, allow_inf_nan=False)
    except ValueError as broken:
        raise error(f"{where} is not readable as JSON ({broken}); it is damaged.") from None
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, (dict, list)):
            left += each.values() if isinstance(each, dict) else each
        elif (isinstance(each, int) and abs(each) > LARGEST) or (isinstance(each, float) and not math.isfinite(each)):
            raise error(f"{where} holds a number that is out of bounds; it is damaged.")
    return value


def check_format(record: object, expected: str, where: object, error: type[ModeError], what: str) -> None:
    """Refuse what is not the format `expected`, such as "mode-run/1"; a newer number is told from another kind."""
    found = record.get("format") if isinstance(record, dict) else None
    if found == expected:
        return
    kind, _, number = expected.rpartition("/")
    later = re.fullmatch(rf"{kind}/([0-9]{{1,9}})", found) if isinstance(found, str) else None
    if later and int(later[1]) > int(number):
        raise error(newer(where, found, expected))
    raise error(f"{where} is JSON, but no {what} (no 'format': '{expected}').")


def newer(where: object, found: object, known: object) -> str:
    """The refusal of a file that a later version wrote."""
    return f"{where} has the format {found}; this version reads {known}. Update this software, or make the file anew."


@cache
def _adapter(shape: Any) -> Any:
    from pydantic import TypeAdapter  # here: it takes 0.1 s, which a start without a run need not wait for

    return TypeAdapter(shape)


def shape_of(kind: Any) -> Any:
    """The `TypedDict` of a dataclass of settings as its `to_dict` gives it: every field may be missing, no other may
    be there, tuples are lists."""
    if is_dataclass(kind):
        parts = {name: NotRequired[shape_of(each)] for name, each in _hints(kind).items()}  # type: ignore
        shape = TypedDict(kind.__name__, parts)  # type: ignore[misc]
        shape.__pydantic_config__ = CLOSED  # type: ignore[attr-defined]
        return shape
    if get_origin(kind) is tuple:
        first, *more = get_args(kind)
        many = list[shape_of(first)]  # type: ignore
        return many if more == [...] else Annotated[many, Len(1 + len(more), 1 + len(more))]  # type: ignore
    return kind


def _hints(kind: type) -> dict[str, Any]:
    own = get_type_hints(kind)
    return {field.name: own[field.name] for field in fields(kind)}


def checked(record: object, shape: Any, where: object, error: type[ModeError], is_what: str = "is damaged") -> Any:
    """`record` where it has the fields and types of `shape`.

    Raises:
        `error`: with `where`, the first field that is wrong, what is wrong with it, and what it holds; `is_what` says
            what follows from it.
    """
    from pydantic import ValidationError

    try:
        return _adapter(shape).validate_python(record, strict=True)
    except ValidationError as refused:
        first = refused.errors(include_url=False)[0]
        field = ".".join(str(part)[:60] for part in first["loc"]) or "the whole"
        if first["type"] == "extra_forbidden":
            raise error(
                f"{where} {is_what}: {field}: there is no such field; take it out, or correct its name."
            ) from None
        held = "" if first["type"] == "missing" else f"; it holds {shortened(first['input'])}"
        wrong = re.sub("predicate '(.*)' failed", r"input should be a \1", first["msg"][0].lower() + first["msg"][1:])
        raise error(f"{where} {is_what}: {field}: {wrong.replace('_', ' ')}{held}.") from None


def shortened(value: object, most: int = 60) -> str:
    """A value as Python writes it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]} …"
