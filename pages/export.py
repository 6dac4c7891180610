"""Export: the bits in forms that other software reads, as a download, in a folder, or by the same command."""

from __future__ import annotations

import streamlit as st

from dashboard.components import in_session
from dashboard.parts.budget import deployment
from dashboard.parts.controls import change_budget
from dashboard.parts.export import commands, exporting, paper_kit, run_report
from dashboard.state import current_run, solving
from dashboard.state.choices import describe
from dashboard.words.plain import plain
from mode_core.allocation import Allocation, AllocationError
from mode_core.errors import in_words
from mode_core.export import ExportError


def page() -> None:
    """Where it is to run, which form, what that will hold, and taking it."""
    st.title("Export")
    st.caption("Each export carries a manifest that says from which run, method and budget it came.")
    current_run.statistics()  # says what to do where there is no run yet
    deployment.row()
    try:
        chosen = solving.allocation()
    except AllocationError as refused:
        change_budget(refused)
        return
    st.markdown(f"**Allocation** {describe(solving.settings_now())}: {chosen.average_bits:.2f} bits on average, "
                f"{'proven optimal' if chosen.proven_optimal else 'not proven optimal'}.")  # fmt: skip
    deployment.verdict(chosen, with_commands=False)
    try:
        forms(chosen)
    except (ExportError, OSError) as refused:
        st.error(plain(in_words(refused)), icon=":material/error:")


def forms(chosen: Allocation) -> None:
    """One form, what it will hold, the same by a command, and the report."""
    group = exporting.group_part()
    left, right = st.columns(2, gap="medium")
    with left:
        target = exporting.form_part(group)
        exporting.options_part(target)
        folder = commands.folder_of(target, chosen)
        exporting.take_part(target, chosen, folder)
    with right:
        exporting.outlook_part(target, chosen)
    st.caption("The same on the command line, in the repository's folder:")
    line = commands.command(target, folder, exporting.told(target))
    st.code(line, language=None, wrap_lines=True)  # the colours of shell code are too faint for some
    st.subheader("Report")
    st.caption("The run as one HTML file: who uses which expert, what rounding breaks, the bits, what was measured, "
               "all that Compare shows. It needs neither a network nor this software; charts save as SVG.")  # fmt: skip
    st.download_button(
        "Download the report", in_session(lambda: run_report.build(line).encode()), f"{solving.stem('report')}.html",
        "text/html", on_click="ignore", key="export:report",
    )  # fmt: skip
    paper_kit.part(line)


page()
