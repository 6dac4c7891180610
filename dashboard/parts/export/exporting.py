"""Parts of the Export page: which form, what is known about it, what it will hold, and taking it."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path

import pandas as pd
import streamlit as st

from dashboard.components import in_session, show_table
from dashboard.jobs import work
from dashboard.parts.budget import deployment
from dashboard.parts.calibrate import trust
from dashboard.parts.export.archive import zipped
from dashboard.parts.export.commands import PROGRAM
from dashboard.parts.quantize import quantizing
from dashboard.shell import jobs_panel
from dashboard.state import address, current_run, estimating, folders, model_sources, process_wide, solving
from dashboard.words.plain import plain
from mode_core import bundled
from mode_core.allocation import Allocation
from mode_core.errors import ImportanceError, PredictionError
from mode_core.export import GROUPS, TARGETS, ExportError, ExportResult, Target, export
from mode_core.export.imatrix import FILE as IMATRIX
from mode_core.export.refit import COARSE, LAYER, MODEL, UNIT_WORDS, fit, told_beside_uniform
from mode_core.export.target import Fitted, missing_package
from mode_core.export.writing import check_widths
from mode_core.jobs import Job

PREVIEW = 2_000  # characters of a text file
MOST_ZIPPED = 2_000  # MB of a checkpoint that may be zipped in memory for a download
LANGUAGES = {".json": "json", ".yaml": "yaml", ".sh": "bash", ".py": "python", ".md": "markdown"}
FIRST = next(iter(TARGETS))
PER_LAYER = "export:per_layer"
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
    """Which kind: the group of the form that the address names; another one begins with its first form."""
    st.session_state["export:group"] = TARGETS[address.chosen("form", list(TARGETS), FIRST)].group
    return st.pills(  # not a segmented control: these wrap where the page is narrow
        "Kind of export", list(GROUPS), format_func=GROUPS.get, required=True, key="export:group",
        on_change=lambda: _first_of(st.session_state["export:group"]),
    )  # fmt: skip


def form_part(group: str) -> Target:
    """Which form of the group."""
    engine = deployment.engine()
    forms = {name: target for name, target in TARGETS.items() if target.group == group}
    if engine and engine.name in forms:  # what was asked for comes first
        forms = {engine.name: engine} | forms
    name = st.radio(
        "Form", list(forms), format_func=lambda name: _title(forms[name], engine),
        captions=[_whom(target) for target in forms.values()],
        **address.bind_place("form", list(TARGETS), FIRST, key="export:target"),
    )  # fmt: skip
    target = forms[name]
    if target.warning:
        st.warning(target.warning, icon=":material/warning:")
    if target.finest_unit in COARSE:
        st.toggle(
            "A budget for each layer", key=PER_LAYER, persist_state="session",
            help=f"This form holds one width for {UNIT_WORDS[target.finest_unit]}. With a budget of its own a layer "
            "has little or nothing to choose, so layers share the whole model's unless you insist.",
        )  # fmt: skip
    return target


def options_part(target: Target) -> None:
    """What this form alone can be told."""
    for name, values in _offered(target).items():
        label, help_ = OPTIONS[name]
        st.selectbox(
            label, values, format_func=lambda value, name=name: OFFERED.get((name, value), value), help=help_,
            **address.bind_place(name, values, values[0], key=f"export:{name}"),
        )  # fmt: skip


def _offered(target: Target) -> dict[str, list[str]]:
    """The values of a form's own options, the default first; of matrices those among the exports, by their paths."""
    found = [folders.relative(path) for path in sorted(folders.exports_folder().glob(f"*/{IMATRIX}"))]
    return {name: [*values, *(found if name == "imatrix" else ())] for name, values in target.offers.items()}


def told(target: Target) -> dict[str, str]:
    """What the form is told beside the bits; only what is not on its default."""
    said = {name: address.chosen(name, values, values[0]) for name, values in _offered(target).items()}
    insisted = target.finest_unit in COARSE and st.session_state.get(PER_LAYER)
    said = {name: value for name, value in said.items() if value != _offered(target)[name][0]}
    return said | ({"budget_per": LAYER} if insisted else {})


def _with_places(target: Target) -> dict[str, str]:
    """`told`, with paths that hold from wherever the dashboard was started."""
    said = told(target)
    return said | {name: str(bundled.HOME / said[name]) for name in ("imatrix",) if name in said}


def _first_of(group: str) -> None:
    form = next(name for name, target in TARGETS.items() if target.group == group)
    address.put(form=None if form == FIRST else form)


def _title(target: Target, engine: Target | None) -> str:
    """With a mark on the one for the chosen engine, else on the recommended one."""
    mark = f"for {engine.engine}" if target is engine else "recommended" if target.recommended and not engine else ""
    return target.title + (f" :blue-badge[{mark}]" if mark else "")


def _whom(target: Target) -> str:
    """Who should take it, after the reason of the one that is recommended."""
    return f"{target.recommended} {target.for_whom}".lstrip()


def outlook_part(target: Target, chosen: Allocation) -> None:
    """What the export will be like; where the form cannot hold these bits, why."""
    _facts(target)
    try:
        _price(target, chosen)
        _preview(target, chosen)
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
    known = {"statistics": current_run.statistics(), "sizes": solving.split_sizes()}
    fitted = fit(chosen, target, **known, budget_per=told(target).get("budget_per", MODEL))
    check_widths(target, fitted.allocation)
    if fitted.price is None:
        if not deployment.other_group(target):
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
    if worth := _beside_uniform(fitted):
        (st.warning if fitted.width is not None else st.info)(worth, icon=":material/balance:")
    for note in fitted.notes:
        st.caption(plain(note))


def _beside_uniform(fitted: Fitted) -> str:
    """What a coarse unit is worth, before anything is written; why not, where the run cannot tell."""
    try:
        return told_beside_uniform(fitted, estimating.predict)
    except (ImportanceError, PredictionError) as refused:
        return f"What this is worth beside uniform bits cannot be predicted: {plain(refused)}"


def _preview(target: Target, chosen: Allocation) -> None:
    """What the files will hold; for a checkpoint, what it is made of."""
    if target.needs_model:
        st.caption("A whole checkpoint; it is written on request, because the model has to be loaded for it.")
        return
    with tempfile.TemporaryDirectory() as place:
        result = _write(target, chosen, Path(place) / "preview")
        for path in result.files:
            with st.expander(f"{path.name} · {path.stat().st_size / 1e3:,.1f} kB", expanded=path == result.files[0]):
                if path.suffix == ".csv":
                    show_table(pd.read_csv(path), height=300)
                elif path.suffix == ".parquet":
                    st.caption("The same table as the CSV, with types, for pandas and other tools.")
                else:
                    text = path.read_text(encoding="utf-8")
                    language = LANGUAGES.get(path.suffix)
                    st.code(text[:PREVIEW] + ("\n…" if len(text) > PREVIEW else ""), language=language, height=320)


def take_part(target: Target, chosen: Allocation, folder: Path) -> None:
    """Download, or write to a folder; where neither can be, what to do."""
    source = current_run.run().model_source
    if target.needs_model and model_sources.folder_of(source) is None:
        told = model_sources.not_here(source, "this form cannot be written here")
        st.info(f"{plain(told)} A recipe and the bits as data need only the run; the commands below write this form "
                "where the model is.", icon=":material/cloud_off:")  # fmt: skip
        return
    if group := deployment.other_group(target):
        now, size = solving.quantizer().group_size, group["group_size"]
        st.warning(f"This form cannot hold groups of {'whole rows' if now < 0 else now} with matrices of this model's "
                   f"sizes; {size} fits.", icon=":material/grid_on:")  # fmt: skip
        st.button(f"Take groups of {size}", type="primary", key="export:group_size", on_click=address.choose,
                  kwargs=group, help="More scales: a little larger, and no less exact.")  # fmt: skip
        return
    if target.needs_model:
        trust.switch(source)
    if missing := missing_package(target):
        st.info(missing, icon=":material/inventory_2:")
        return
    job = process_wide.watched_job()
    row = st.container(horizontal=True)
    if not target.needs_model:
        row.download_button(
            "Download as zip", in_session(lambda: _download(target, chosen, folder.name)), f"{folder.name}.zip",
            "application/zip", on_click="ignore", type="primary", width="stretch", key="export:download",
        )  # fmt: skip
    where = f"Writes to {plain(folders.relative(folder))}; an earlier export there is replaced."
    if row.button(
        "Write to a folder", type="primary" if target.needs_model else "secondary", width="stretch",
        disabled=job is not None and job.active, key="export:write", help=where,
    ):  # fmt: skip
        if target.needs_model:
            if not _start(target, chosen, folder):
                return
            st.rerun()
        result = _write(target, chosen, folder)
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


def _write(target: Target, chosen: Allocation, folder: Path) -> ExportResult:
    """Write a form that needs no model; quick."""
    run = current_run.run()
    samples = quantizing.own_samples(run) if target.takes_samples else None
    given = {"run": run, "quantizer": solving.quantizer(), "samples": samples, "options": _with_places(target)}
    return export(target.name, chosen, folder, **given)


def _start(target: Target, chosen: Allocation, folder: Path) -> Job | None:
    """Write a form that needs the model, as long work."""
    run = current_run.run()
    return process_wide.start(
        f"Export {target.name}", f"export:{folder}", work.export_whole, process_wide.shelf(), run, target.name, chosen,
        folder, solving.quantizer(), quantizing.calibration_samples(), options=_with_places(target),
        trusted=trust.may_run(run.model_source),
    )  # fmt: skip


def _download(target: Target, chosen: Allocation, name: str) -> bytes:
    """The zip, made when it is asked for."""
    with tempfile.TemporaryDirectory() as place:
        return zipped(_write(target, chosen, Path(place) / name).folder)


def _offer_checkpoint(folder: Path, size: float) -> None:
    """A checkpoint that was written, as a download where it is small enough; `size` in MB."""
    if size > MOST_ZIPPED:
        st.caption("Too large for a download by the browser; copy the folder.")
        return
    st.download_button(
        "Download as zip", lambda: zipped(folder), f"{folder.name}.zip", "application/zip", on_click="ignore",
        width="stretch", key="export:checkpoint",
    )  # fmt: skip
