"""Choosing the model to calibrate: the bundled one, a folder that may be read, or a hub id where there is a network."""

from __future__ import annotations

import os
from pathlib import Path

import streamlit as st

from dashboard.state import folders
from mode_core.models.errors import ModelError

ROOTS = "MODE_MODELS"  # environment variable: folders below which models may be read; unset: anywhere
MOST_FOLDERS = 200


def pick() -> str | None:
    """Which model; None while there is none."""
    st.subheader("Model")
    which = st.segmented_control(
        "Model", ["Bundled", "Folder", "Hub id"], default="Bundled", required=True, key="calibrate:model",
        persist_state="session", label_visibility="collapsed",
    )  # fmt: skip
    if which == "Bundled":
        return _bundled()
    return _folder() if which == "Folder" else _hub()


def _bundled() -> str | None:
    if not (folders.BUNDLED_MODEL / "config.json").is_file():
        st.warning(f"The bundled model is missing ({folders.BUNDLED_MODEL}). Choose a folder instead.")
        return None
    st.caption("A small Qwen3-VL-MoE, really trained, for teaching and testing. It runs on two CPU cores.")
    return str(folders.BUNDLED_MODEL)


def _folder() -> str | None:
    if roots() and (listed := models_below(roots())):
        st.selectbox(
            "Models found", [None, *listed], format_func=lambda path: "choose …" if path is None else path.name,
            key="calibrate:listed", on_change=_take_listed, help="Folders with a config.json below " + _words(roots()),
        )  # fmt: skip
    folder = st.text_input(
        "Folder of a model on this machine", key="calibrate:folder", persist_state="session",
        placeholder="/models/Qwen3-VL-30B-A3B-Instruct",
        help="With config.json, safetensors weights, tokenizer and processor files, as transformers loads it.",
    ).strip()  # fmt: skip
    if not folder:
        return None
    try:
        return str(allowed(folder, roots()))
    except ModelError as refused:
        st.error(str(refused), icon=":material/error:")
        return None


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
    if not HUB_ID.fullmatch(name):
        st.error(f"{name!r} is no hub id; it has the form owner/name.", icon=":material/error:")
        return None
    st.caption("It may be tens of GB. Tokens are counted only once the model is on this machine.")
    return name


def roots() -> list[Path]:
    """Folders below which models may be read, from the environment; empty where any folder may be."""
    return [Path(part).expanduser().resolve() for part in os.environ.get(ROOTS, "").split(os.pathsep) if part]


def allowed(folder: str, below: list[Path]) -> Path:
    """The folder, links resolved, if it may be read.

    Raises:
        ModelError: it lies outside of every allowed root.
    """
    place = Path(folder).expanduser()
    if below and not any(place.resolve().is_relative_to(root) for root in below):
        raise ModelError(f"{folder} may not be read: this dashboard reads models below {_words(below)} only.")
    return place


def models_below(below: list[Path]) -> list[Path]:
    """Folders with a config.json, at most two levels below the roots."""
    found = {path.parent for root in below for depth in ("*", "*/*") for path in root.glob(f"{depth}/config.json")}
    return sorted(found)[:MOST_FOLDERS]


def _words(below: list[Path]) -> str:
    return " and ".join(map(str, below))
