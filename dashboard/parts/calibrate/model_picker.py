"""Choosing the model to calibrate: the bundled one, a folder that may be read, or a hub id where there is a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from dashboard.state import folders, model_sources
from dashboard.words.plain import plain
from mode_core.models.errors import ModelError

MOST_FOLDERS = 200


def pick() -> str | None:
    """Which model; None while there is none."""
    st.subheader("Model")
    which = st.segmented_control(
        "Model", ["Bundled", "Folder", "Hub id"], default="Bundled", required=True, key="calibrate:model",
        persist_state="session", label_visibility="collapsed",
    )  # fmt: skip
    source = {"Bundled": _bundled, "Folder": _folder, "Hub id": _hub}[which]()
    try:
        return source and model_sources.allowed(source)
    except ModelError as refused:
        st.error(plain(refused), icon=":material/error:")
        return None


def _bundled() -> str | None:
    if not (folders.BUNDLED_MODEL / "config.json").is_file():
        st.warning(f"The bundled model is missing ({plain(folders.BUNDLED_MODEL)}). Choose a folder instead.")
        return None
    st.caption("A small Qwen3-VL-MoE, really trained, for teaching and testing. It runs on two CPU cores.")
    return str(folders.BUNDLED_MODEL)


def _folder() -> str:
    if (below := model_sources.roots()) and (listed := models_below(below)):
        st.selectbox(
            "Models found", [None, *listed], format_func=lambda path: "choose …" if path is None else path.name,
            key="calibrate:listed", on_change=_take_listed,
            help=f"Folders with a config.json below {plain(' and '.join(map(str, below)))}.",
        )  # fmt: skip
    return st.text_input(
        "Folder of a model on this machine", key="calibrate:folder", persist_state="session",
        placeholder="/models/Qwen3-VL-30B-A3B-Instruct",
        help="With config.json, safetensors weights, tokenizer and processor files, as transformers loads it. To "
             "round in a rotated basis (QuaRot), make one with `python -m mode_core rotate --model … --out FOLDER`, "
             "and choose it: it answers as the original does.",
    ).strip()  # fmt: skip


def _take_listed() -> None:
    if st.session_state["calibrate:listed"] is not None:
        st.session_state["calibrate:folder"] = str(st.session_state["calibrate:listed"])


def _hub() -> str | None:
    from mode_core.models.folders import HUB_ID

    name = st.text_input(
        "Hub id", key="calibrate:hub", persist_state="session", placeholder="Qwen/Qwen3-VL-30B-A3B-Instruct",
        help="transformers fetches it on the first use, where there is a network; later it is read from its cache.",
    ).strip()  # fmt: skip
    if not name:
        return None
    if not HUB_ID.fullmatch(name) or not model_sources.is_hub_id(name):
        why = "it is a folder here; give it under Folder" if HUB_ID.fullmatch(name) else "it has the form owner/name"
        st.error(f"{plain(repr(name))} is no hub id; {why}.", icon=":material/error:")
        return None
    st.caption("It may be tens of GB. Tokens are counted only once the model is on this machine.")
    return name


def models_below(below: Sequence[Path]) -> list[Path]:
    """Folders with a config.json, at most two levels below the roots."""
    found = {path.parent for root in below for depth in ("*", "*/*") for path in root.glob(f"{depth}/config.json")}
    return sorted(found)[:MOST_FOLDERS]
