"""Choosing calibration samples: the bundled ones, own pictures with a question each, or a file with its pictures.

What was uploaded stays with the session until it is taken away, at most `MAX_UPLOAD` bytes of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dashboard.state import folders
from mode_core.samples import ImageSource, Sample, SampleError, read_samples, samples_digest, samples_from_uploads
from mode_core.samples.records import IMAGE_SUFFIXES

MAX_UPLOAD = 400_000_000  # bytes kept of one session's uploads
SHOWN = 8  # samples in the preview
PICTURE_WIDTH = 108  # pixels
SOURCES = ("Bundled samples", "Own pictures", "Own file")
QUESTION = "Describe the picture."
PICTURES = [suffix[1:] for suffix in IMAGE_SUFFIXES]


def pick() -> list[Sample]:
    """The samples that a person chose; empty while there are none."""
    which = st.segmented_control(
        "Where from", SOURCES, default=SOURCES[0], required=True, key="samples:source", persist_state="session",
        label_visibility="collapsed",
    )  # fmt: skip
    chosen = {SOURCES[0]: _bundled, SOURCES[1]: _pictures, SOURCES[2]: _files}[which]()
    if chosen and which != SOURCES[1]:
        if len(chosen) > 1:
            count = st.slider(
                "How many of them", 1, len(chosen), len(chosen), key=f"samples:count:{which}", persist_state="session"
            )
            chosen = chosen[:count]
        _preview(chosen)
    return chosen


def bundled_calibration() -> list[Sample]:
    """The bundled calibration samples; empty where they are missing."""
    return _read_bundled(folders.CALIBRATION.stat().st_mtime_ns) if folders.CALIBRATION.is_dir() else []


def own_file(kind: str) -> list[Sample]:
    """A person's own samples from a file with its pictures, kept under `kind`; empty while there are none."""
    chosen = _files(kind)
    if chosen:
        _preview(chosen)
    return chosen


def digest(samples: Sequence[Sample]) -> str:
    """Hash of the samples' ids."""
    return samples_digest(samples)


def _bundled() -> list[Sample]:
    if not folders.CALIBRATION.is_dir():
        st.warning(f"The bundled samples are missing ({folders.CALIBRATION}). Upload your own instead.")
        return []
    st.caption("Pictures with a question each, and questions without one, drawn by the scripts in sample_data.")
    return _read_bundled(folders.CALIBRATION.stat().st_mtime_ns)


@st.cache_resource(max_entries=1, show_spinner="Reading the samples …")
def _read_bundled(stamp: int) -> list[Sample]:
    return list(read_samples(folders.CALIBRATION))


def _pictures() -> list[Sample]:
    """Own pictures, each with a question beside its thumbnail."""
    kept = _uploads("pictures", "Pictures", PICTURES, "Several at once. Each becomes one sample with its question.")
    if not kept:
        return []
    st.caption(f"A field left empty asks: “{QUESTION}”")
    told, texts = st.container(), {}
    for name, data in kept.items():
        shown, asked = st.columns([1, 4], vertical_alignment="center", wrap=False)
        with shown:
            _show_thumbnail(name, data)
        written = asked.text_input(name, key=f"samples:question:{name}", placeholder=QUESTION, persist_state="session")
        texts[name] = written.strip() or QUESTION
    with told:  # above the pictures, which may be many
        return _read(kept, texts)


def _files(kind: str = "files") -> list[Sample]:
    """A JSONL, CSV, JSON or zip, and the pictures that it names."""
    hint = 'One line of a JSONL: {"images": ["dog.png"], "messages": [{"role": "user", "content": "<image>what?"}]}'
    types = ["jsonl", "csv", "json", "zip", *PICTURES]
    kept = _uploads(kind, "JSONL, CSV, JSON or zip, with its pictures", types, hint)
    return _read(kept, {}) if kept else []


def _read(kept: dict[str, bytes], texts: dict[str, str]) -> list[Sample]:
    """Uploads as samples; what is refused is listed, file by file, and the good ones are kept."""
    try:
        found = samples_from_uploads(kept, texts)
    except SampleError as refused:
        _show_refused([str(refused)], 0)
        return []
    _show_refused(found.errors, len(found))
    return found


def _show_thumbnail(name: str, data: bytes) -> None:
    try:
        st.image(_thumbnail(name, data), width="stretch", alt=name)
    except SampleError:
        st.caption(":material/broken_image: not a picture")


def _uploads(kind: str, label: str, types: list[str], hint: str) -> dict[str, bytes]:
    """Uploaded files by name, kept across pages; new ones join the old ones until they are taken away."""
    kept: dict[str, bytes] = st.session_state.setdefault(f"uploads:{kind}", {})
    turn = st.session_state.setdefault(f"uploads:{kind}:turn", 0)
    new = st.file_uploader(label, types, accept_multiple_files=True, key=f"uploader:{kind}:{turn}", help=hint)
    for file in new or []:
        if sum(map(len, kept.values())) + file.size > MAX_UPLOAD:
            st.error(f"{file.name}: together the files exceed {MAX_UPLOAD / 1e6:.0f} MB; use a folder and the CLI.")
        else:
            kept[file.name] = file.getvalue()
    if kept and st.button(
        "Take the file away" if len(kept) == 1 else f"Take all {len(kept)} files away", key=f"clear:{kind}"
    ):
        st.session_state[f"uploads:{kind}"] = {}
        st.session_state[f"uploads:{kind}:turn"] = turn + 1
        st.rerun()
    return kept


def _show_refused(refused: Sequence[str], good: int) -> None:
    if refused:
        kept = f" The other {good} samples are kept." if good else ""
        st.error(f"{len(refused)} could not be used.{kept}", icon=":material/error:")
        st.markdown("\n".join(f"- {reason}" for reason in refused[:20]))


@st.cache_data(max_entries=512, show_spinner=False)
def _thumbnail(name: str, data: bytes):
    picture = ImageSource(name, data=data).load()
    picture.thumbnail((2 * PICTURE_WIDTH, 2 * PICTURE_WIDTH))
    return picture


def _preview(samples: Sequence[Sample]) -> None:
    """The first samples as small pictures with their text; as many in a row as fit."""
    with st.container(horizontal=True, gap="small"):
        for sample in samples[:SHOWN]:
            with st.container(width=PICTURE_WIDTH, gap=None):
                if sample.images:
                    st.image(_thumbnail_of(sample), width=PICTURE_WIDTH, alt=sample.images[0].name)
                st.caption(sample.text[:120])
    if len(samples) > SHOWN:
        st.caption(f"… and {len(samples) - SHOWN} more.")


def _thumbnail_of(sample: Sample):
    return _thumbnail(sample.images[0].name, sample.images[0].read())
