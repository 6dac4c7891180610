"""Export: the bits in forms that other software reads, as a download, in a folder, or by the same command."""

import streamlit as st

from dashboard.parts.export import exporting, run_report
from dashboard.state import address, current_run, folders, solving
from dashboard.state.choices import describe
from dashboard.words.plain import plain
from mode_core.allocation import AllocationError
from mode_core.errors import in_words
from mode_core.export import ExportError

st.title("Export")
st.caption("Take the bits along. Each export carries a manifest that says from which run, method and budget it came.")
try:
    chosen = solving.allocation()
except AllocationError as refused:
    st.error(plain(refused), icon=":material/error:")
    if st.button("Change the budget", type="primary"):
        address.go("budget")
    st.stop()
st.markdown(f"**Allocation** {describe(solving.settings_now())}: {chosen.average_bits:.2f} bits on average, "
            f"{'proven optimal' if chosen.proven_optimal else 'not proven optimal'}.")  # fmt: skip
group = exporting.group_part()
left, right = st.columns(2, gap="medium")
try:
    with left:
        target = exporting.form_part(group)
        folder = folders.exports_folder() / f"{current_run.run_entry().name}-{target.name}-{chosen.average_bits:.2f}bit"
        exporting.take_part(target, chosen, folder)
    with right:
        exporting.outlook_part(target, chosen)
    st.caption("The same on the command line, in the repository's folder:")
    line = exporting.command(target, chosen, folder)
    st.code(line, language=None, wrap_lines=True)  # the colours of shell code are too faint for some
    st.subheader("Report")
    st.caption("The run as one HTML file: who uses which expert, what rounding breaks, the bits, what was measured. "
               "It needs neither a network nor this software; charts there can be saved as SVG.")  # fmt: skip
    st.download_button(
        "Download the report", lambda: run_report.build(line).encode(), f"{current_run.run_entry().name}-report.html",
        "text/html", on_click="ignore", key="export:report",
    )  # fmt: skip
except (ExportError, OSError) as refused:
    st.error(plain(in_words(refused)), icon=":material/error:")
