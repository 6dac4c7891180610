"""The open run as one HTML file, figures and words, readable without a network or this software."""

from __future__ import annotations

import html
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import plotly.io
from plotly.offline import get_plotlyjs

from dashboard.charts import theme

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; color: #2b2f36; }
h1 { font-size: 1.6rem; margin-bottom: 0.2rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; font-size: 0.9rem; } td, th { padding: 0.2rem 0.8rem 0.2rem 0; text-align: left;
border-bottom: 1px solid #e3e5e8; vertical-align: top; } .quiet { color: #5b616b; } figure { margin: 1rem 0; }
figcaption { color: #5b616b; font-size: 0.9rem; } pre { background: #f5f6f8; padding: 0.8rem; overflow-x: auto; }
.wide { overflow-x: auto; } summary { cursor: pointer; } nav { columns: 3; font-size: 0.9rem; }
"""
FOLDED = 20  # rows; longer tables open by a click
# Nothing that stands in a report, whoever wrote it, asks another machine for anything.
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


@dataclass(frozen=True)
class Section:
    """A heading with sentences, figures and tables below it, in this order."""

    title: str
    sentences: Sequence[str] = ()
    figures: Sequence[go.Figure] = ()
    tables: Sequence[pd.DataFrame] = ()
    code: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


def report(title: str, about: str, sections: Sequence[Section]) -> str:
    """The whole file. Everything that is not a figure's own markup is escaped; Plotly stands inside, once."""
    made = time.strftime("%Y-%m-%d %H:%M")
    body = "\n".join(_section(section, number) for number, section in enumerate(sections))
    links = (f"<a href='#{number}'>{html.escape(section.title)}</a>" for number, section in enumerate(sections))
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        f"<meta http-equiv='Content-Security-Policy' content=\"{_POLICY}\">"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>"
        f"<script>{get_plotlyjs()}</script></head><body>"
        f"<h1>{html.escape(title)}</h1><p class='quiet'>{html.escape(about)} Made {made}.</p>"
        f"<nav>{'<br>'.join(links)}</nav>{body}</body></html>\n"
    )


def _section(section: Section, number: int) -> str:
    parts = [f"<h2 id='{number}'>{html.escape(section.title)}</h2>"]
    parts += [f"<p>{html.escape(sentence)}</p>" for sentence in section.sentences]
    if section.facts:
        rows = "".join(
            f"<tr><th>{html.escape(str(name))}</th><td>{html.escape(str(value))}</td></tr>"
            for name, value in section.facts.items()
        )
        parts.append(f"<table>{rows}</table>")
    parts += [_figure(figure, f"figure-{number}-{place}") for place, figure in enumerate(section.figures)]
    parts += map(_table, section.tables)
    if section.code:
        parts.append(f"<pre>{html.escape(section.code)}</pre>")
    return "\n".join(parts)


def _table(frame: pd.DataFrame) -> str:
    """Whole; folded where it is long, so that nobody scrolls past thousands of rows."""
    rows = f"<div class='wide'>{frame.to_html(index=False, border=0, na_rep='–')}</div>"
    return f"<details><summary>Table of {len(frame):,} rows</summary>{rows}</details>" if len(frame) > FOLDED else rows


def _figure(figure: go.Figure, name: str) -> str:
    """One figure with its description for those who cannot see it, and its sentence below."""
    meta = figure.layout.meta or {}
    drawn = plotly.io.to_html(
        theme.themed(go.Figure(figure)), include_plotlyjs=False, full_html=False, div_id=name,
        config=theme.TOOLBAR | {"responsive": True, "toImageButtonOptions": {"format": "svg"}},
    )  # fmt: skip
    alt, summary = html.escape(str(meta.get("alt", "")), quote=True), html.escape(str(meta.get("summary", "")))
    return f'<figure role="img" aria-label="{alt}">{drawn}<figcaption>{summary}</figcaption></figure>'
