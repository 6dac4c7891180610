"""Python code that comes with a model: which files, and the words about letting it run. No Streamlit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mode_core.models.errors import ModelError, OwnCodeError

SWITCH = "Run this model's own Python code"
MEANING = (
    "It would be run on this machine, with all rights of the dashboard. Switch on only for a model whose code you "
    "have read. It is for this model only, and forgotten when the page is closed or loaded again."
)
GENERATE = "custom_generate/generate.py"  # read by transformers without being named in any configuration


@dataclass(frozen=True)
class OwnCode:
    """What a model's folder brings: Python files in it, and repositories elsewhere whose code it names."""

    files: tuple[str, ...]
    elsewhere: tuple[str, ...] = ()


def own_code(folder: str) -> OwnCode | None:
    """The code that a model's folder asks transformers to run; None where it asks for none."""
    place = Path(folder)
    named = {name for path in place.glob("*config.json") for name in _classes(_read(path))}
    if not named and not (place / GENERATE).is_file():
        return None
    files = (path.relative_to(place).as_posix() for path in (*place.glob("*.py"), *place.glob("*/*.py")))
    return OwnCode(tuple(sorted(files)), tuple(sorted({name.split("--")[0] for name in named if "--" in name})))


def identity(source: str) -> str:
    """One name for one model, however the path of its folder is written."""
    return str(Path(source).resolve()) if Path(source).is_dir() else source


@contextmanager
def named_switch(source: str) -> Iterator[None]:
    """While a model is loaded: where it lacks leave to run its own code, the refusal says where the switch is.

    Raises:
        ModelError: that refusal.
    """
    try:
        yield
    except OwnCodeError as refused:
        raise ModelError(
            f"{source} comes with Python code of its own, which is not run without leave. Read it; if you trust it, "
            f"use the switch “{SWITCH}”: under Model on the Calibrate page, above the buttons on Quantize and Export."
        ) from refused


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # whatever is wrong with it is said when the model is loaded
        return None


def _classes(record: Any) -> Iterator[str]:
    """Every class that an `auto_map` names, at whatever depth: "module.Class", or "owner/name--module.Class"."""
    left = [record]
    while left:
        for key, value in found.items() if isinstance(found := left.pop(), dict) else ():
            if key != "auto_map":
                left.append(value)
                continue
            lists = value.values() if isinstance(value, dict) else [value]
            names = (name for one in lists for name in (one if isinstance(one, list) else [one]))
            yield from (name for name in names if isinstance(name, str) and name)
