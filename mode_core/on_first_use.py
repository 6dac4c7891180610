"""Packages whose names are imported when first asked for: who reads a file does not wait for torch."""

import ast
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def on_first_use(package: str, file: str) -> Callable[[str], Any]:
    """`__getattr__` for the package in `file`: it fetches the names listed there under `if TYPE_CHECKING`.

    That list is the only one: type checkers and editors read it as it stands.
    """
    blocks = (node for node in ast.parse(Path(file).read_text(encoding="utf-8")).body if isinstance(node, ast.If))
    imports = [each for block in blocks for each in block.body if isinstance(each, ast.ImportFrom)]
    homes = {alias.name: each.module for each in imports for alias in each.names}

    def fetch(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(homes[name]), name)

    return fetch
