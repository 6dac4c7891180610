"""What somebody else wrote, as text: of samples, file names, tasks, runs, models, addresses, errors that quote them."""

from __future__ import annotations

import re

_SEAM = "\u2060"  # WORD JOINER: no width, no break; parts what Markdown would join even where it is escaped
_MARKS = re.compile(r"([\\`*\[\]<$~&]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")  # within a word _ is itself
_LEADING = re.compile(r"^(?:[-+#>=|]|(\d+)(?=[.)](?:\s|$)))")
_JOINED = re.compile(r"(?<=:)(?=[\w+/-])|(?<=www)(?=\.)|(?<=@)(?=\w)|(?<=[-<>~=])(?=[->=])", re.IGNORECASE)


def plain(text: object) -> str:
    """One line that Streamlit's Markdown shows as it is written: no picture, link, HTML, formula, icon or colour in it.

    For every Markdown text and label; not for what shows text as it is (`st.code`, `st.text`, tables, options).
    """
    line = _MARKS.sub(r"\\\1", _JOINED.sub(_SEAM, " ".join(str(text).split())))
    return _LEADING.sub(lambda found: f"{found[1]}\\" if found[1] else f"\\{found[0]}", line)


def plain_label(text: object) -> str:
    """The same for a chart's titles, names, ticks and hover texts, in which Plotly reads HTML and `%{…}`."""
    escaped = str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return escaped.replace("%{", f"%{_SEAM}{{")
