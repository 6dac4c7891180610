"""YAML that a person may have written: plain values alone, each key once, no aliases, bounded; refused in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mode_core.errors import ModeError

MOST_BYTES = 1 << 20


class _Plain(yaml.SafeLoader):
    """Refuses aliases, which can stand for more than any memory holds, and keys that occur twice."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="an alias (*name)", problem_mark=self.peek_event().start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                raise yaml.MarkedYAMLError(problem=f"{name[:60]!r} occurs twice", problem_mark=key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, error: type[ModeError], what: str) -> Any:
    """The value in a YAML file, as JSON could hold it; `what` it should be.

    Raises:
        `error`: no such file, too large, or no YAML of plain values.
    """
    if not path.is_file():
        raise error(f"There is no {what} {path}.")
    if path.stat().st_size > MOST_BYTES:
        raise error(f"{path} is larger than {MOST_BYTES >> 20} MB; it is no {what}.")
    return parse_yaml(path.read_bytes(), path, error)


def parse_yaml(content: bytes | str, where: object, error: type[ModeError]) -> Any:
    """The value of a YAML text that lies at `where`; raises as `read_yaml`."""
    try:
        return yaml.load(content, _Plain)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as broken:
        raise error(f"{where} is not readable as YAML ({' '.join(str(broken).split())[:300]}).") from None


def front_matter(path: Path, error: type[ModeError]) -> dict[str, Any]:
    """What stands between the two `---` at the head of a Markdown file; empty where there is none, or no file.

    Raises:
        `error`: it is no YAML of plain values.
    """
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    found = re.match(r"---\s*\n(.*?\n)---\s*$", text, re.DOTALL | re.MULTILINE)
    head = parse_yaml(found[1], path, error) if found else {}
    return head if isinstance(head, dict) else {}


def yaml_of(value: Mapping[str, Any]) -> str:
    """Plain values as YAML, keys in their order."""
    return yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True, width=120)
