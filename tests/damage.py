"""Damage for readers to be tried with: values, structure and bytes, drawn by hypothesis so that a failure is shrunk."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("MODE_FUZZ", "150"))
QUICK = settings(
    max_examples=EXAMPLES,
    derandomize="MODE_FUZZ" not in os.environ,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 3.5, -0.0, 1e308, -1e308, 10**30, 2**63, -(10**4000)),
    *(float("nan"), float("inf"), "", "x", "\0", "../../x", "²", "a" * 5000, "<img src=x onerror=alert(1)>"),
    *([], {}, [[]], [1, 2], {"v": 1}, [None], "mode-run/99", "16", "007", "-1"),
)
TEXTS = (
    *(
        b"",
        b"null",
        b"3",
        b"[]",
        b"{}",
        b'"\\ud800"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
    ),
    *(b"9" * 5000, b"1e999", b"NaN", b"\0" * 64),
)


@st.composite
def damaged_value(draw: st.DrawFn, record: Any) -> bytes:
    """JSON of a record with one to three nodes replaced, dropped, doubled, wrapped or renamed; or other JSON."""
    if draw(st.integers(0, 19)) == 0:
        return draw(st.sampled_from(TEXTS))
    record = copy.deepcopy(record)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(record))
        if not places:
            break
        holder, key = places[draw(st.integers(0, 1 << 30)) % len(places)]
        act = draw(st.sampled_from(("value", "value", "value", "drop", "double", "wrap", "rename")))
        if act == "value":
            holder[key] = copy.deepcopy(draw(st.sampled_from(VALUES)))
        elif act == "drop":
            del holder[key]
        elif act == "double" and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        elif act == "wrap":
            holder[key] = [holder[key]]
        elif isinstance(holder, dict):
            holder[draw(st.sampled_from(("name", "", "9" * 50, "²", "layers.7")))] = holder.pop(key)
    return json.dumps(record).encode()


def _places(record: Any):
    for key in record if isinstance(record, dict) else range(len(record)) if isinstance(record, list) else ():
        yield record, key
        yield from _places(record[key])


@st.composite
def damaged_bytes(draw: st.DrawFn, content: bytes, head: int = 1 << 12) -> bytes:
    """A file cut off, or with bytes changed, added or taken out; mostly near its beginning."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, 1 << 30)) % max(1, min(len(data), draw(st.sampled_from((head, 1 << 30)))))
        act = draw(st.sampled_from(("cut", "flip", "flip", "digit", "insert", "delete")))
        if act == "cut":
            del data[place:]
        elif act == "delete":
            del data[place : place + draw(st.integers(1, 9))]
        elif act == "insert":
            data[place:place] = draw(st.binary(min_size=1, max_size=9))
        elif place < len(data):
            data[place] = draw(st.integers(0, 255)) if act == "flip" else draw(st.sampled_from(b"0123456789"))
    return bytes(data)


def foreign(read: Callable[[], object], ours: tuple[type[BaseException], ...]) -> None:
    """Run a reader: it may succeed or refuse in the project's words; every other error comes out."""
    try:
        read()
    except ours as refused:
        assert str(refused).strip(), "a refusal without words"
