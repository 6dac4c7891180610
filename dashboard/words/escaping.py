"""Text that others wrote, as Streamlit's Markdown shows it letter by letter."""

from __future__ import annotations

import re

_MEANT = re.compile(r"[\\`*\[\]<>$~|]|:(?=[a-z+])|(?<!\w)_|_(?!\w)|^[#+-](?= )|\n")


def escaped(text: str) -> str:
    """The text with a backslash before whatever Markdown, icons or colours would be made of; in one line."""
    return _MEANT.sub(lambda found: " " if found[0] == "\n" else f"\\{found[0]}", text)
