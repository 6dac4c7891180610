"""Export: the bits in forms that other software reads, as a download, in a folder, or by the same command."""

import shlex
import tempfile
from pathlib import Path

import pandas as pd
import streamlit as st

from dashboard import jobs_panel, quantizing, run_report, session, work
from dashboard.archive import zipped
from dashboard.choices import describe
from mode_core.allocation import Allocation, AllocationError
from mode_core.export import TARGETS, ExportError, Target, export
from mode_core.export.refit import UNIT_WORDS, fit
from mode_core.export.target import missing_package

PREVIEW = 2_000  # characters of a text file
MOST_ZIPPED = 2_000  # MB of a checkpoint that may be zipped in memory for a download
LANGUAGES = {".json": "json", ".yaml": "yaml", ".sh": "bash", ".py": "python", ".md": "markdown"}


def written(target: Target, chosen: Allocation, folder: Path):
    """Write a target that needs no model; quick."""
    return export(target.name, chosen, folder, run=session.run(), **work.export_options(session.rounding(), None))


def price_part(target: Target, chosen: Allocation) -> None:
    """What the target's unit costs, where it is coarser than the allocation's."""
    fitted = fit(chosen, target, statistics=session.statistics(), sizes=session.split_sizes())
    if fitted.price is None:
        st.caption(":material/check: These bits fit this target as they are.")
    else:
        price = fitted.price
        times = "" if price["times"] is None else f" ({price['times']:.2f} times)"
        st.warning(
            f"This target holds one width for {UNIT_WORDS[target.finest_unit]}. The allocation is solved again for it: "
            f"predicted damage {price['predicted_loss_as_written']:.3g} in place of "
            f"{price['predicted_loss_as_asked']:.3g}{times}, at {price['average_bits_as_written']:.2f} bits on average "
            "(estimates).",
            icon=":material/price_change:",
        )
    for note in fitted.notes:
        st.caption(note)


def download(target: Target, chosen: Allocation, name: str) -> bytes:
    """The zip, made when it is asked for."""
    with tempfile.TemporaryDirectory() as place:
        return zipped(written(target, chosen, Path(place) / name).folder)


def target_part() -> Target:
    """Which form, and what is known about it in plain words."""
    name = st.radio(
        "Form", list(TARGETS), format_func=lambda key: TARGETS[key].title, key="export:target", persist_state="session"
    )
    target = TARGETS[name]
    rows = {
        "Finest unit": UNIT_WORDS[target.finest_unit],
        "Widths": ", ".join("16 (untouched)" if width == 16 else str(width) for width in target.widths) + " bits",
        "Who reads it": target.engines,
        "How it was proven": target.proof,
    }
    st.markdown("\n".join(f"- **{what}**: {words}" for what, words in rows.items()))
    if target.warning:
        st.warning(target.warning, icon=":material/warning:")
    return target


def command(target: Target, chosen: Allocation, folder: Path) -> str:
    """The command line that writes the same: the allocation as a file first, then the export."""
    now, run = session.choices(), session.relative(session.run_entry().path)
    kept = f"{session.relative(folder)}.allocation.json"
    in_mb = now.budget_unit == "MB"
    budget = ["--budget-mb", f"{session.megabytes():.6g}"] if in_mb else ["--average-bits", f"{now.average_bits:g}"]
    solve = ["python", "-m", "mode_core", "allocate", "--run", run, "--method", now.method]
    solve += ["--key-ratio", f"{now.key_ratio:.2f}", "--signal", now.signal]
    solve += ["--vision-weight", f"{now.vision_weight:g}"]
    solve += [*budget, "--bits", *map(str, chosen.widths), "--scope", now.scope, "--unit", now.unit]
    for bank, expert, bits in session.pinned():
        solve += ["--pin", f"{bank}.{expert}={bits}"]
    solve += ["--quantizer", now.quantizer] * (now.quantizer != "rtn") + ["--out", kept]
    write = ["python", "-m", "mode_core", "export", "--run", run, "--allocation", kept]
    write += ["--target", target.name, "--out", session.relative(folder)]
    grid, plain = session.grid(), session.statistics().settings
    write += ["--group-size", str(grid["group_size"])] * (grid["group_size"] != plain["group_size"])
    write += ["--asymmetric"] * (not grid["symmetric"])
    write += ["--quantizer", now.quantizer] * (now.quantizer != "rtn")
    for name, bits in (("--attention-bits", now.attention_bits), ("--shared-bits", now.shared_bits)):
        write += [name, str(bits)] if bits else []
    return shlex.join(solve) + "\n" + shlex.join(write)


def preview(target: Target, chosen: Allocation) -> None:
    """What the files will hold; for a checkpoint, what it is made of."""
    if target.needs_model:
        st.caption("A whole checkpoint; it is written on request, because the model has to be loaded for it.")
        return
    with tempfile.TemporaryDirectory() as place:
        result = written(target, chosen, Path(place) / "preview")
        for path in result.files:
            with st.expander(f"{path.name} · {path.stat().st_size / 1e3:,.1f} kB", expanded=path == result.files[0]):
                if path.suffix == ".csv":
                    st.dataframe(pd.read_csv(path), hide_index=True, height=300)
                elif path.suffix == ".parquet":
                    st.caption("The same table as the CSV, with types, for pandas and other tools.")
                else:
                    text = path.read_text(encoding="utf-8")
                    language = LANGUAGES.get(path.suffix)
                    st.code(text[:PREVIEW] + ("\n…" if len(text) > PREVIEW else ""), language=language, height=320)


def take_part(target: Target, chosen: Allocation, folder: Path) -> None:
    """Download, or write to a folder."""
    name = folder.name
    job = session.jobs().get(session.watched())
    busy = job is not None and job.active
    left, right = st.columns(2)
    writing = left if target.needs_model else right  # the first button is the one that leads on
    if missing := missing_package(target):
        st.info(missing, icon=":material/inventory_2:")
        return
    if not target.needs_model:
        left.download_button(
            "Download as zip", lambda: download(target, chosen, name), f"{name}.zip", "application/zip",
            on_click="ignore", type="primary", width="stretch", key="export:download",
        )  # fmt: skip
    where = f"Writes to {session.relative(folder)}; an earlier export there is replaced."
    kind = "primary" if target.needs_model else "secondary"
    if writing.button("Write to a folder", type=kind, width="stretch", disabled=busy, key="export:write", help=where):
        if target.needs_model:
            job = session.jobs().submit(
                f"Export {target.name}", f"export:{folder}", work.export_whole, session.shelf(), session.run(),
                target.name, chosen, folder,
                work.export_options(session.rounding(), quantizing.calibration_samples()),
            )  # fmt: skip
            session.watch(job.id)
            st.rerun()
        result = written(target, chosen, folder)
        st.success(f"{len(result.files)} files in {session.relative(folder)}.", icon=":material/check_circle:")
    if job is not None and job.kind == f"export:{folder}":
        jobs_panel.panel(job)
        if job.state == "done":
            size = sum(path.stat().st_size for path in job.result.files) / 1e6
            st.success(f"{len(job.result.files)} files, {size:.1f} MB, in {session.relative(folder)}.")
            if size <= MOST_ZIPPED:
                right.download_button(
                    "Download as zip", lambda: zipped(folder), f"{name}.zip", "application/zip", on_click="ignore",
                    width="stretch", key="export:checkpoint",
                )  # fmt: skip
            else:
                st.caption("Too large for a download by the browser; copy the folder.")


st.title("Export")
st.caption("Take the bits along. Each export carries a manifest that says from which run, method and budget it came.")
try:
    chosen = session.allocation()
except AllocationError as refused:
    st.error(str(refused), icon=":material/error:")
    if st.button("Change the budget", type="primary"):
        session.go("budget")
    st.stop()
st.markdown(f"**Allocation** {describe(session.settings_now())}: {chosen.average_bits:.2f} bits on average, "
            f"{'proven optimal' if chosen.proven_optimal else 'not proven optimal'}.")  # fmt: skip
left, right = st.columns([2, 3], gap="large")
try:
    with left:
        target = target_part()
        folder = session.exports_folder() / f"{session.run_entry().name}-{target.name}-{chosen.average_bits:.2f}bit"
        take_part(target, chosen, folder)
    with right:
        price_part(target, chosen)
        preview(target, chosen)
    st.caption("The same on the command line, in the repository's folder:")
    line = command(target, chosen, folder)
    st.code(line, language="bash", wrap_lines=True)
    st.subheader("Report")
    st.caption("The run as one HTML file: who uses which expert, what rounding breaks, the bits, what was measured. "
               "It needs neither a network nor this software; charts there can be saved as SVG.")  # fmt: skip
    st.download_button(
        "Download the report", lambda: run_report.build(line).encode(), f"{session.run_entry().name}-report.html",
        "text/html", on_click="ignore", key="export:report",
    )  # fmt: skip
except (ExportError, OSError) as refused:
    st.error(str(refused), icon=":material/error:")
