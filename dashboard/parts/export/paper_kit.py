"""The paper kit: the report's figures, tables, references and settings as one zip, its figures drawn by the browser."""

from __future__ import annotations

import re

import streamlit as st

from dashboard.components.kit import kit_button
from dashboard.parts.export import paper_texts, run_report
from dashboard.parts.export.report import Section
from dashboard.state import address, comparisons, current_run, solving
from mode_core.importance import METHODS

README = """Made by the MODE dashboard.

figures/         each as PDF (with its fonts) and SVG, 178 mm wide: two columns of a paper
tables/          LaTeX, to be read in with \\input; they need the package booktabs, long ones a smaller type
methods.tex      a paragraph that states the settings
references.bib   what it and the tables cite; authors are not known to the dashboard, complete them from the addresses
command.txt      the command lines that make the same allocation again
"""


def part(command: str) -> None:
    """Opened on request, since every figure is made for it."""
    opened = st.expander("Paper kit: figures, LaTeX tables, BibTeX and a methods paragraph", key="export:kit-open",
                         on_change="rerun")  # fmt: skip
    if not opened.open:
        return
    with opened:
        made = run_report.sections(command)
        figures = {name(section, place): figure for section in made for place, figure in enumerate(section.figures)}
        st.caption(f"{len(figures)} figures of the report, light, each as PDF and SVG; drawn here in the browser.")
        kit_button("Download the paper kit", figures, texts(made, command), f"{solving.stem('paper-kit')}.zip",
                   key="export:kit")  # fmt: skip


def name(section: Section, place: int) -> str:
    """What a figure or table of the report is called in the kit: no two of a section are alike."""
    return f"{re.sub(r'[^a-z0-9]+', '-', section.title.lower()).strip('-')}-{place + 1}"


def texts(made: list[Section], command: str) -> dict[str, str]:
    """File name → text: the tables, the paragraph, and what they cite."""
    asked, statistics = solving.request(), current_run.statistics()
    tables = {
        f"tables/{name(section, place)}.tex": paper_texts.table(rows, section.title, name(section, place))
        for section in made
        for place, rows in enumerate(section.tables)
    }
    compared = {method for evidence in comparisons.all_evidence() for method in set(evidence.scores["method"])}
    used = [asked.method, *(method for method in METHODS if method in compared)]
    paragraph = paper_texts.methods_paragraph(asked, solving.quantizer(), solving.allocation(), statistics)
    sources = paper_texts.cited(used, address.choices().request.signal)
    return tables | {
        "README.txt": README,
        "methods.tex": paragraph,
        "references.bib": paper_texts.bibtex(sources),
        "command.txt": f"{command}\n",
    }
