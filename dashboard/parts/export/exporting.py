"""Parts of the Export page: which form, what is known about it, what it will hold, and taking it."""

from __future__ import annotations

import shlex
import tempfile
from dataclasses import replace
from pathlib import Path

import pandas as pd
import streamlit as st

from dashboard.jobs import work
from dashboard.parts.calibrate import trust
from dashboard.parts.export.archive import zipped
from dashboard.parts.quantize import quantizing
from dashboard.shell import jobs_panel
from dashboard.state import address, current_run, folders, process_wide, solving
from dashboard.words.plain import plain
from mode_core import bundled
from mode_core.allocation import Allocation
from mode_core.export import GROUPS, TARGETS, ExportError, ExportResult, Target, export
from mode_core.export.imatrix import FILE as IMATRIX
from mode_core.export.refit import UNIT_WORDS, fit
from mode_core.export.target import missing_package
from mode_core.export.writing import check_widths
from mode_core.jobs import Job

Told = dict[str, str]  # options of a form's own
PREVIEW = 2_000  # characters of a text file
MOST_ZIPPED = 2_000  # MB of a checkpoint that may be zipped in memory for a download
LANGUAGES = {".json": "json", ".yaml": "yaml", ".sh": "bash", ".py": "python", ".md": "markdown"}
PROGRAM = ("python", "-m", "mode_core")
FIRST = next(iter(TARGETS))
OPTIONS = {  # of single forms: what they are called, and what they do
    "types": ("Types of the experts", "Codes are our own rounding, kept exactly. K and IQ types are ggml's, which "
              "rounds the weights itself. They are chosen at their real bits, within the same bytes."),
    "rest": ("Everything else", "Attention, embeddings and the like: as they were, or in a smaller type."),
    "imatrix": ("Importance matrix", "What K and IQ types are rounded with: an export of the form 'An importance "
                "matrix that has seen pictures'. IQ2 types need one."),
    "weighting": ("Which tokens count", "Without redundant vision tokens, the background of a picture; or all alike."),
}  # fmt: skip
OFFERED = {
    ("types", "codes"): "codes: what our quantizer rounded", ("types", "all"): "all: K and IQ types too",
    ("types", "plan"): "plan: the smallest that holds each width", ("rest", ""): "as it was",
    ("imatrix", ""): "none", ("weighting", "modality"): "text and key vision tokens",
    ("weighting", "plain"): "all tokens",
}  # fmt: skip


def group_part() -> str:
    """What to take along: the group of the form that the address names; another one begins with its first form."""
    st.session_state["export:group"] = TARGETS[address.chosen("form", list(TARGETS), FIRST)].group
    return st.pills(  # not a segmented control: these wrap where the page is narrow
        "What to take along", list(GROUPS), format_func=GROUPS.get, required=True, key="export:group",
        on_change=lambda: _first_of(st.session_state["export:group"]),
    )  # fmt: skip


def form_part(group: str) -> Target:
    """Which form of the group."""
    forms = {name: target for name, target in TARGETS.items() if target.group == group}
    name = st.radio(
        "Form", list(forms), format_func=lambda name: _title(forms[name]), captions=list(map(_whom, forms.values())),
        **address.bind_place("form", list(TARGETS), FIRST, key="export:target"),
    )  # fmt: skip
    target = forms[name]
    if target.warning:
        st.warning(target.warning, icon=":material/warning:")
    return target


def options_part(target: Target) -> dict[str, str]:
    """What this form alone can be told; only what is not on its default."""
    said = {}
    for name, offered in target.offers.items():
        label, told = OPTIONS[name]
        values = [*offered, *_matrices()] if name == "imatrix" else list(offered)
        value = st.selectbox(
            label, values, format_func=lambda value, name=name: OFFERED.get((name, value), value), help=told,
            **address.bind_place(name, values, values[0], key=f"export:{name}"),
        )  # fmt: skip
        if value != values[0]:
            said[name] = value
    return said


def _matrices() -> list[str]:
    """Importance matrices among the exports, by their paths."""
    return [folders.relative(path) for path in sorted(folders.exports_folder().glob(f"*/{IMATRIX}"))]


def _with_places(told: Told) -> Told:
    """The same with paths that hold from wherever the dashboard was started."""
    return told | {name: str(bundled.HOME / told[name]) for name in ("imatrix",) if name in told}


def _first_of(group: str) -> None:
    form = next(name for name, target in TARGETS.items() if target.group == group)
    address.put(form=None if form == FIRST else form)


def _title(target: Target) -> str:
    return target.title + (" :blue-badge[recommended]" if target.recommended else "")


def _whom(target: Target) -> str:
    """Who should take it, after the reason of the one that is recommended."""
    return f"{target.recommended} {target.for_whom}".lstrip()


def outlook_part(target: Target, chosen: Allocation, told: Told) -> None:
    """What the export will be like; where the form cannot hold these bits, why."""
    _facts(target)
    try:
        _price(target, chosen)
        _preview(target, chosen, told)
    except ExportError as refused:
        st.error(plain(refused), icon=":material/error:")


def _facts(target: Target) -> None:
    """What is known about the form, in plain words."""
    rows = {
        "Finest unit": UNIT_WORDS[target.finest_unit],
        "Widths": ", ".join("16 (untouched)" if width == 16 else str(width) for width in target.widths) + " bits",
        "Who reads it": target.engines,
        "How it was proven": target.proof,
    }
    st.markdown("\n".join(f"- **{what}**: {words}" for what, words in rows.items()))


def _price(target: Target, chosen: Allocation) -> None:
    """What the target's unit costs, where it is coarser than the allocation's.

    Raises:
        ExportError: the target cannot hold these bits.
    """
    if target.fit is not None:
        st.caption("Types are chosen at their real bits, within the same bytes, when the file is written.")
        return
    fitted = fit(chosen, target, statistics=current_run.statistics(), sizes=solving.split_sizes())
    check_widths(target, fitted.allocation)
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
        st.caption(plain(note))


def _preview(target: Target, chosen: Allocation, told: Told) -> None:
    """What the files will hold; for a checkpoint, what it is made of."""
    if target.needs_model:
        st.caption("A whole checkpoint; it is written on request, because the model has to be loaded for it.")
        return
    with tempfile.TemporaryDirectory() as place:
        result = _write(target, chosen, Path(place) / "preview", told)
        for path in result.files:
            with st.expander(f"{path.name} · {path.stat().st_size / 1e3:,.1f} kB", expanded=path == result.files[0]):
                if path.suffix == ".csv":
                    st.dataframe(pd.read_csv(path), hide_index=True, height=300)
                elif path.suffix == ".parquet":
                    st.caption("The same table as the CSV, with types, for pandas and other tools.")
                else:
                    with path.open(encoding="utf-8") as file:
                        text = file.read(PREVIEW + 1)
                    language = LANGUAGES.get(path.suffix)
                    st.code(text[:PREVIEW] + ("\n…" if len(text) > PREVIEW else ""), language=language, height=320)
        for note in result.manifest["notes"]:
            st.caption(plain(note))


def take_part(target: Target, chosen: Allocation, folder: Path, told: Told) -> None:
    """Download, or write to a folder."""
    if target.needs_model and (source := current_run.run().model_source):
        trust.switch(source)
    if missing := missing_package(target):
        st.info(missing, icon=":material/inventory_2:")
        return
    job = process_wide.watched_job()
    row = st.container(horizontal=True)
    if not target.needs_model:
        row.download_button(
            "Download as zip", lambda: _download(target, chosen, folder.name, told), f"{folder.name}.zip",
            "application/zip", on_click="ignore", type="primary", width="stretch", key="export:download",
        )  # fmt: skip
    where = f"Writes to {plain(folders.relative(folder))}; an earlier export there is replaced."
    if row.button(
        "Write to a folder", type="primary" if target.needs_model else "secondary", width="stretch",
        disabled=job is not None and job.active, key="export:write", help=where,
    ):  # fmt: skip
        if target.needs_model:
            if not _start(target, chosen, folder, told):
                return
            st.rerun()
        result = _write(target, chosen, folder, told)
        st.success(f"{len(result.files)} files in {plain(folders.relative(folder))}.", icon=":material/check_circle:")
    if job is not None and job.kind == f"export:{folder}":
        jobs_panel.panel(job)
        if job.state == "done":
            size = sum(path.stat().st_size for path in job.result.files) / 1e6
            with row:
                _offer_checkpoint(folder, size)
            st.success(f"{len(job.result.files)} files, {size:.1f} MB, in {plain(folders.relative(folder))}.")
            st.caption("Its README.md is a model card, recipe.yaml makes it again. To publish it, in a terminal:")
            push = ["push", folders.relative(folder), "--to", "OWNER/NAME"]
            st.code(shlex.join([*PROGRAM, *push]), language=None, wrap_lines=True)
            for note in job.result.manifest["notes"]:
                st.text(note)  # names of tensors are the checkpoint's own


def _write(target: Target, chosen: Allocation, folder: Path, told: Told) -> ExportResult:
    """Write a form that needs no model; quick."""
    run = current_run.run()
    samples = quantizing.own_samples(run) if target.takes_samples else None
    return export(
        target.name,
        chosen,
        folder,
        run=run,
        quantizer=solving.quantizer(),
        samples=samples,
        options=_with_places(told),
    )


def _start(target: Target, chosen: Allocation, folder: Path, told: Told) -> Job | None:
    """Write a form that needs the model, as long work."""
    run = current_run.run()
    return process_wide.start(
        f"Export {target.name}", f"export:{folder}", work.export_whole, process_wide.shelf(), run, target.name, chosen,
        folder, solving.quantizer(), quantizing.calibration_samples(), _with_places(told),
        trusted=trust.may_run(run.model_source),
    )  # fmt: skip


def _download(target: Target, chosen: Allocation, name: str, told: Told) -> bytes:
    """The zip, made when it is asked for."""
    with tempfile.TemporaryDirectory() as place:
        return zipped(_write(target, chosen, Path(place) / name, told).folder)


def _offer_checkpoint(folder: Path, size: float) -> None:
    """A checkpoint that was written, as a download where it is small enough; `size` in MB."""
    if size > MOST_ZIPPED:
        st.caption("Too large for a download by the browser; copy the folder.")
        return
    st.download_button(
        "Download as zip", lambda: zipped(folder), f"{folder.name}.zip", "application/zip", on_click="ignore",
        width="stretch", key="export:checkpoint",
    )  # fmt: skip


def command(target: Target, chosen: Allocation, folder: Path, told: Told) -> str:
    """The command lines that write the same: the allocation as a file beside `folder`, then the export of it."""
    asked, quantizer = solving.request(), replace(address.choices().quantizer, samples=solving.quantizer().samples)
    run, out = folders.relative(current_run.run_entry().path), folders.relative(folder)
    kept = f"{out}.allocation.json"
    solve = ["allocate", "--run", run, *asked.to_arguments(), *quantizer.of_experts.to_arguments(), "--out", kept]
    write = ["export", "--run", run, "--allocation", kept, "--target", target.name, "--out", out]
    write += quantizer.to_arguments() + [word for name, value in told.items() for word in (f"--{name}", value)]
    if target.needs_model and trust.may_run(current_run.run().model_source):
        write.append("--trust-remote-code")
    return "\n".join(shlex.join([*PROGRAM, *words]) for words in (solve, write))
