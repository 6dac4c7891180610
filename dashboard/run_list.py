"""The runs made here: looked over, opened, renamed, merged, deleted, taken along; and runs that come from elsewhere."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import session
from dashboard.archive import zipped
from mode_core.merging import merge_runs
from mode_core.run import NAME, Run, RunError
from mode_core.statistics import StatisticsError


def part() -> None:
    """A table of all runs; what can be done follows from how many rows are chosen."""
    entries = session.runs()
    if not entries:
        return
    st.subheader("Runs")
    rows = pd.DataFrame([row_of(entry) for entry in entries])
    picked = st.dataframe(
        rows, hide_index=True, on_select="rerun", selection_mode="multi-row", key="runs-table",
        column_config={"made": st.column_config.DatetimeColumn(format="D MMM YYYY, HH:mm"),
                       "vision": st.column_config.NumberColumn(format="percent")},
    )  # fmt: skip
    chosen = [entries[place] for place in picked.selection.rows if place < len(entries)]
    if not chosen:
        st.caption("Choose one run to open, rename, take along or delete it; choose several to merge them.")
    elif len(chosen) == 1:
        _one(chosen[0])
    else:
        _several(chosen)
    if told := st.session_state.pop("runs-told", None):
        st.success(told, icon=":material/check_circle:")
    if refused := st.session_state.pop("runs-refused", None):
        st.error(refused, icon=":material/error:")


def row_of(entry: session.RunEntry) -> dict[str, Any]:
    """One line of the table; a damaged run is named with the reason, and the others are still shown."""
    row: dict[str, Any] = {"run": entry.label, "model": None, "samples": None, "tokens": None, "vision": None}
    row |= {"state": None, "made": pd.NaT}
    try:
        info = Run.open(entry.path).info
    except (RunError, StatisticsError) as damaged:
        return row | {"state": f"damaged: {damaged}"}
    tokens = info.get("tokens", {})
    total = sum(int(count) for count in tokens.values())
    created = info.get("created")
    return row | {
        "model": info.get("model", {}).get("name"),
        "samples": info.get("samples", {}).get("measured"),
        "tokens": total or None,
        "vision": tokens.get("vision", 0) / total if total else None,
        "state": info.get("state"),
        "made": pd.Timestamp(created, unit="s") if created else pd.NaT,
    }


def _one(entry: session.RunEntry) -> None:
    opening, renaming, taking, deleting = st.columns([1, 2.4, 1, 1], vertical_alignment="bottom")
    opening.button("Open", key="run-open", width="stretch", on_click=lambda: session.open_run(entry.name))
    taking.download_button(
        "Zip", lambda: zipped(entry.path), f"{entry.name}.zip", "application/zip", key="run-zip", on_click="ignore",
        width="stretch", help="The whole run as one file; unpacked into the folder of runs it opens elsewhere.",
    )  # fmt: skip
    if entry.name == session.BUNDLED:
        renaming.caption("The bundled example keeps its name and stays as it came.")
        return
    if Run.open(entry.path).state != "done":
        st.caption(
            "Half done: calibrate again under this name, with the same model, samples and settings, to continue."
        )
    name = renaming.text_input("New name", entry.name, key=f"run-name:{entry.name}").strip()
    if name != entry.name:
        renaming.button("Rename", key="run-rename", on_click=lambda: _told(lambda: rename(entry, name)))
    with deleting.popover("Delete", width="stretch"):
        st.write(f"Delete {entry.name!r} with its allocations and measurements? This cannot be undone.")
        st.button("Delete it", key="run-delete", type="primary", on_click=lambda: _told(lambda: delete(entry)))


def _several(chosen: Sequence[session.RunEntry]) -> None:
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    names = " + ".join(entry.label for entry in chosen)
    name = left.text_input(f"Name of {names} together", time.strftime("merged-%m%d-%H%M%S"), key="run-merged")
    right.button(
        "Merge", type="primary", width="stretch", key="run-merge", on_click=lambda: _told(lambda: merge(chosen, name))
    )
    st.caption("Runs of the same model and settings, and of different samples, add up exactly.")


def _told(act: Any) -> None:
    """Do it, and say what came of it after the rerun; a refusal is shown in its own words."""
    try:
        st.session_state["runs-told"] = act()
    except (RunError, StatisticsError, OSError) as refused:
        st.session_state["runs-refused"] = str(refused)


def rename(entry: session.RunEntry, name: str) -> str:
    """Give a run another name (its folder's); refuses a taken or impossible one."""
    target = _free(name)
    entry.path.rename(target)
    if session.wanted_run() == entry.name:
        session.open_run(name)
    return f"The run is now called {name!r}."


def delete(entry: session.RunEntry) -> str:
    """Remove a run of the folder of runs; an open one gives way to the bundled example."""
    if session.run_busy(entry.name):
        raise RunError(f"A job still writes into {entry.name!r}; cancel it first.")
    shutil.rmtree(entry.path)
    if session.wanted_run() == entry.name:
        session.open_run(session.BUNDLED)
    return f"The run {entry.name!r} is deleted."


def merge(chosen: Sequence[session.RunEntry], name: str) -> str:
    """A new run with all their samples, opened."""
    merge_runs([Run.open(entry.path) for entry in chosen], _free(name))
    session.open_run(name)
    return f"The run {name!r} holds the samples of {', '.join(entry.label for entry in chosen)}, and is open."


def _free(name: str) -> Any:
    target = session.runs_folder() / name
    if not NAME.fullmatch(name) or name == session.BUNDLED:
        raise RunError(f"{name!r} cannot be a run's name; use letters, digits, '.', '-', '_' and spaces.")
    if target.exists():
        raise RunError(f"There is a run called {name!r} already; choose another name.")
    return target
