"""The runs made here: looked over, opened, renamed, merged, deleted, taken along; and runs that come from elsewhere."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from dashboard.components import show_table
from dashboard.parts.export.archive import zipped
from dashboard.state import address, current_run, folders, process_wide
from dashboard.words.plain import plain
from mode_core.errors import ModeError, SettingsError, in_words
from mode_core.json_files import shortened, whole_number
from mode_core.runs.merging import merge_runs
from mode_core.runs.run import NAME, Run, RunError


def part() -> None:
    """A table of all runs; what can be done follows from how many rows are chosen."""
    entries = folders.runs()
    st.subheader("Runs")
    with st.expander("Open files of the paper's released code"):
        _released()
    if not entries:
        return
    picked = show_table(
        pd.DataFrame([row_of(entry) for entry in entries]), on_select="rerun", selection_mode="multi-row",
        key="runs-table",
        column_config={"made": st.column_config.DatetimeColumn(format="D MMM YYYY, HH:mm"),
                       "tokens": st.column_config.NumberColumn(format="localized"),
                       "vision": st.column_config.NumberColumn(format="percent")},
    )  # fmt: skip
    chosen = [entries[place] for place in picked.selection.rows if place < len(entries)]
    if not chosen:
        st.caption("Choose one run to open, rename, download or delete it; choose several to merge them.")
    elif len(chosen) == 1:
        _one(chosen[0])
    else:
        _several(chosen)
    if told := st.session_state.pop("runs-told", None):
        st.success(plain(told), icon=":material/check_circle:")
    if refused := st.session_state.pop("runs-refused", None):
        st.error(plain(refused), icon=":material/error:")


def _released() -> None:
    """Frequency and sensitivity JSON as the released code writes them, as a run."""
    st.caption(
        "Its frequency file (record_freq.py, with --detail) and its sensitivity file "
        "(collect_expert_sensitivity.py). They know one key ratio only, and no intervals."
    )
    left, right = st.columns(2)
    frequency = left.file_uploader("Frequency JSON", ["json"], key="released-frequency")
    sensitivity = right.file_uploader("Sensitivity JSON", ["json"], key="released-sensitivity")
    name = st.text_input("Name of the run", "released", key="released-name").strip()
    sizes = st.text_input(
        "Hidden size, expert size, top-k", key="released-sizes", placeholder="as the paper's models",
        help="Only where the files are of another model than the paper's: three whole numbers.",
    )  # fmt: skip
    if st.button("Open them as a run", disabled=not (frequency and sensitivity), key="released-open"):
        _told(lambda: take_released(frequency.getvalue(), sensitivity.getvalue(), name, sizes_of(sizes)))
        st.rerun()


def sizes_of(text: str) -> tuple[int, int, int] | None:
    """'2048, 768, 8' → the three; None where nothing is written.

    Raises:
        SettingsError: something else.
    """
    if not text.strip():
        return None
    parts = text.replace(",", " ").split()
    if len(parts) != 3 or not all(whole_number(part) and len(part) < 10 and int(part) for part in parts):
        raise SettingsError(
            f"Hidden size, expert size and top-k are three whole numbers, such as 2048, 768, 8; got {shortened(text)}."
        )
    return int(parts[0]), int(parts[1]), int(parts[2])


def take_released(frequency: bytes, sensitivity: bytes, name: str, sizes: tuple[int, int, int] | None) -> str:
    """Both files as a run, opened at the key ratio that they know; a refusal leaves nothing behind."""
    from mode_core.runs.released_json import SIGNAL, import_run

    target = _free(name)
    with tempfile.TemporaryDirectory() as place:
        files = [Path(place) / "frequency.json", Path(place) / "sensitivity.json"]
        for file, content in zip(files, (frequency, sensitivity), strict=True):
            file.write_bytes(content)
        _, statistics = import_run(*files, target, sizes=sizes)
    (ratio,) = statistics.settings["key_ratios"]
    current_run.open_run(name)
    address.choose(key_ratio=ratio, signal=SIGNAL)
    return f"The run {name!r} is open, at the key ratio {100 * ratio:.0f} %, the only one that these files know."


def row_of(entry: folders.RunEntry) -> dict[str, Any]:
    """One line of the table; a damaged run is named with the reason, and the others are still shown."""
    row: dict[str, Any] = {"run": entry.label, "model": None, "samples": None, "tokens": None, "vision": None}
    row |= {"state": None, "made": pd.NaT}
    try:
        info = Run.open(entry.path).info
    except (ModeError, OSError) as damaged:
        return row | {"state": f"damaged: {in_words(damaged)}"}
    tokens, model = info.get("tokens", {}), info.get("model", {})
    total = sum(int(count) for count in tokens.values())
    created = info.get("created")
    return row | {
        "model": model.get("name") or model.get("source"),
        "samples": info.get("samples", {}).get("measured"),
        "tokens": total or None,
        "vision": tokens.get("vision", 0) / total if total else None,
        "state": info.get("state"),
        "made": pd.Timestamp(created, unit="s") if created else pd.NaT,
    }


def _one(entry: folders.RunEntry) -> None:
    opening, renaming, taking, deleting = st.columns([1, 2.4, 1, 1], vertical_alignment="bottom")
    opening.button("Open", key="run-open", width="stretch", on_click=lambda: current_run.open_run(entry.name))
    taking.download_button(
        "Zip", lambda: zipped(entry.path), f"{entry.name}.zip", "application/zip", key="run-zip", on_click="ignore",
        width="stretch", help="The whole run as one file; unpacked into the folder of runs it opens elsewhere.",
    )  # fmt: skip
    if entry.name == folders.BUNDLED:
        renaming.caption("The bundled example keeps its name and stays as it came.")
        return
    if row_of(entry)["state"] == "half done":
        st.caption(
            "Half done: calibrate again under this name, with the same model, samples and settings, to continue."
        )
    name = renaming.text_input("New name", entry.name, key=f"run-name:{entry.name}").strip()
    if name != entry.name:
        renaming.button("Rename", key="run-rename", on_click=lambda: _told(lambda: rename(entry, name)))
    with deleting.popover("Delete", width="stretch"):
        st.write(f"Delete {plain(repr(entry.name))} with its allocations and measurements? This cannot be undone.")
        st.button("Delete it", key="run-delete", type="primary", on_click=lambda: _told(lambda: delete(entry)))


def _several(chosen: Sequence[folders.RunEntry]) -> None:
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    names = " + ".join(entry.label for entry in chosen)
    name = left.text_input(f"Name of {plain(names)} together", time.strftime("merged-%m%d-%H%M%S"), key="run-merged")
    right.button(
        "Merge", type="primary", width="stretch", key="run-merge", on_click=lambda: _told(lambda: merge(chosen, name))
    )
    st.caption("Runs of the same model and settings, and of different samples, add up exactly.")


def _told(act: Any) -> None:
    """Do it, and say what came of it after the rerun; a refusal is shown in its own words."""
    try:
        st.session_state["runs-told"] = act()
    except (ModeError, OSError) as refused:
        st.session_state["runs-refused"] = in_words(refused)


def rename(entry: folders.RunEntry, name: str) -> str:
    """Give a run another name (its folder's); refuses a taken or impossible one."""
    target = _free(name)
    Run(entry.path).rename(target)
    if address.wanted_run() == entry.name:
        current_run.open_run(name)
    return f"The run is now called {name!r}."


def delete(entry: folders.RunEntry) -> str:
    """Remove a run of the folder of runs; an open one gives way to the bundled example."""
    if process_wide.run_busy(entry.name):
        raise RunError(f"A job still writes into {entry.name!r}; cancel it first.")
    Run(entry.path).remove()
    if address.wanted_run() == entry.name:
        current_run.open_run(folders.BUNDLED)
    return f"The run {entry.name!r} is deleted."


def merge(chosen: Sequence[folders.RunEntry], name: str) -> str:
    """A new run with all their samples, opened."""
    merge_runs([Run.open(entry.path) for entry in chosen], _free(name))
    current_run.open_run(name)
    return f"The run {name!r} holds the samples of {', '.join(entry.label for entry in chosen)}, and is open."


def _free(name: str) -> Any:
    target = folders.runs_folder() / name
    if not NAME.fullmatch(name) or name == folders.BUNDLED:
        raise RunError(f"{name!r} cannot be a run's name; use letters, digits, '.', '-', '_' and spaces.")
    if target.exists():
        raise RunError(f"There is a run called {name!r} already; choose another name.")
    return target
