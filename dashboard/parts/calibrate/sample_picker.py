"""Choosing calibration samples: the bundled ones, own pictures, sounds and films with a question, or a file with
them.

What was uploaded stays with the session until it is taken away, at most `MAX_UPLOAD` bytes of it.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Sequence

import streamlit as st

from dashboard.state import folders, sample_sources
from dashboard.words.plain import plain
from mode_core.samples import (
    ImageSource,
    Sample,
    SampleError,
    SampleList,
    read_samples,
    samples_digest,
    samples_from_uploads,
)
from mode_core.samples.images import LONE_SUFFIXES, medium, thumbnail
from mode_core.samples.tables import TABLE_SUFFIXES

MAX_UPLOAD = 400_000_000  # bytes kept of one session's uploads
SHOWN = 8  # samples in the preview
MOST_TASKS = 12  # that are named in the mix
MOST_REFUSED = 20  # that are named
PICTURE_WIDTH = 108  # pixels
SOURCES = ("Bundled samples", "Own pictures", "Own file", "Folder of this machine")
QUESTION = "Describe the {}."
MEDIA = [suffix[1:] for suffix in LONE_SUFFIXES]


def pick() -> SampleList:
    """The samples that a person chose; empty while there are none."""
    which = st.segmented_control(
        "Where from", SOURCES, default=SOURCES[0], required=True, key="samples:source", persist_state="session",
        label_visibility="collapsed", wrap=True,
    )  # fmt: skip
    chosen = {SOURCES[0]: _bundled, SOURCES[1]: _pictures, SOURCES[2]: _files, SOURCES[3]: on_machine}[which]()
    if chosen and which != SOURCES[1]:
        if len(chosen) > 1:
            count = st.slider(
                "How many of them", 1, len(chosen), len(chosen), key=f"samples:count:{which}", persist_state="session",
                help="Drawn evenly by task and by having a picture (seed 0), as `--limit` does at the command line.",
            )  # fmt: skip
            chosen = chosen.draw(count) if count < len(chosen) else chosen
        st.caption(mix_words(chosen))
        _preview(chosen)
    return chosen


def mix_words(samples: SampleList) -> str:
    """How many there are with pictures, with sounds, with neither, of which tasks: "12 with pictures (12 colour)"."""
    parts = []
    for kind, tasks in samples.mix().items():
        named = ", ".join(f"{count} {task}" for task, count in list(tasks.items())[:MOST_TASKS])
        more = f", and {len(tasks) - MOST_TASKS} tasks more" if len(tasks) > MOST_TASKS else ""
        parts.append(f"{sum(tasks.values())} {kind} ({named}{more})")
    return plain("; ".join(parts) + ".")


def bundled_calibration(count: int | None) -> SampleList:
    """So many of the bundled calibration samples, drawn evenly (None: all); empty where they are missing."""
    if not folders.CALIBRATION.is_dir():
        return SampleList()
    held = _read_bundled(folders.CALIBRATION.stat().st_mtime_ns)
    return held if count is None else held.draw(count)


def own_file(kind: str) -> list[Sample]:
    """A person's own samples from a file with its pictures, kept under `kind`; empty while there are none."""
    chosen = _files(kind)
    if chosen:
        _preview(chosen)
    return chosen


def on_machine(kind: str = "machine") -> SampleList:
    """Samples from a folder, table or zip that lies on this machine, below the folders that may be read."""
    if not (offered := sample_sources.roots()):
        st.caption(sample_sources.HOW)
        return SampleList()
    path = st.text_input(
        "Folder, table or zip on this machine", key=f"samples:path:{kind}", persist_state="session",
        placeholder=str(offered[0]), help=f"Below {' or '.join(map(str, offered))}; nothing else is read.",
    ).strip()  # fmt: skip
    if not path:
        return SampleList()
    held = st.session_state.get(f"machine:{kind}")
    if held is None or held[0] != path or st.button("Read it again", key=f"again:{kind}", type="tertiary"):
        try:
            with st.spinner("Reading the samples …"):
                found = sample_sources.read(path)
        except SampleError as refused:
            found = SampleList(errors=[str(refused)])
        held = st.session_state[f"machine:{kind}"] = (path, found)
    _show_refused(held[1].errors, len(held[1]))
    return held[1]


def items(kind: str, most: int) -> SampleList:
    """Items to measure on: the bundled questions, an own file, or what lies on this machine; at most `most`, drawn."""
    offered = ("Bundled questions", *SOURCES[2:])
    which = st.segmented_control("Items", offered, default=offered[0], required=True, key=f"items:{kind}",
                                 persist_state="session")  # fmt: skip
    if which == SOURCES[2]:
        found = _files(kind)
    elif which == SOURCES[3]:
        found = on_machine(kind)
    else:
        found = _read_items() if folders.EVALUATION.is_dir() else SampleList()
    if len(found) > most:
        found = found.draw(most)
    if found:
        st.caption(mix_words(found))
    return found


@st.cache_resource(max_entries=1, show_spinner="Reading the questions …")
def _read_items() -> SampleList:
    return read_samples(folders.EVALUATION)


def digest(samples: Sequence[Sample]) -> str:
    """Hash of the samples' ids."""
    return samples_digest(samples)


def _bundled() -> SampleList:
    if not folders.CALIBRATION.is_dir():
        st.warning(f"The bundled samples are missing ({plain(folders.CALIBRATION)}). Upload your own instead.")
        return SampleList()
    st.caption("Pictures with a question each, and questions without one, drawn by the scripts in sample_data.")
    return _read_bundled(folders.CALIBRATION.stat().st_mtime_ns)


@st.cache_resource(max_entries=1, show_spinner="Reading the samples …")
def _read_bundled(stamp: int) -> SampleList:
    return read_samples(folders.CALIBRATION)


def _pictures() -> SampleList:
    """Own pictures, sounds and films, each with a question beside what it shows."""
    kept = _uploads("pictures", "Pictures, sounds or films", MEDIA, "Each becomes one sample with its question.")
    if not kept:
        return SampleList()
    _twice("pictures", "the second one was left out. Rename one of them.")
    usual = dict.fromkeys(f"“{QUESTION.format(medium(name))}”" for name in kept)
    st.caption(f"A field left empty asks: {' or '.join(usual)}")
    told, texts = st.container(), {}
    for name, data in kept.items():
        shown, asked = st.columns([1, 4], vertical_alignment="center", wrap=False)
        with shown:
            _show_medium(name, data)
        own = QUESTION.format(medium(name))
        written = asked.text_input(
            plain(name), key=f"samples:question:{name}", placeholder=own, persist_state="session"
        )
        texts[name] = written.strip() or own
    with told:  # above these, which may be many
        return _read("pictures", kept, texts)


def _files(kind: str = "files") -> SampleList:
    """A table or zip, and the media that it names."""
    hint = 'One line of a JSONL: {"images": ["dog.png"], "messages": [{"role": "user", "content": "<image>what?"}]}'
    types = [*(suffix[1:] for suffix in TABLE_SUFFIXES), "zip", *MEDIA]
    kept = _uploads(kind, "JSON, JSONL, CSV, TSV, Parquet or zip, with its pictures, sounds and films", types, hint)
    if not kept:
        return SampleList()
    twice = _twice(kind, "neither is used. A browser sends names without folders: put all into one zip, and give that.")
    return _read(kind, {name: data for name, data in kept.items() if name not in twice}, {})


def _read(kind: str, kept: dict[str, bytes], texts: dict[str, str]) -> SampleList:
    """Uploads as samples, read once; what is refused is listed, file by file, and the good ones are kept."""
    stamp = (tuple((name, len(data), hash(data)) for name, data in kept.items()), tuple(texts.items()))
    held = st.session_state.get(f"uploads:{kind}:read")
    if held is None or held[0] != stamp:
        try:
            found = samples_from_uploads(kept, texts)
        except SampleError as refused:
            found = SampleList(errors=[str(refused)])
        held = st.session_state[f"uploads:{kind}:read"] = (stamp, found)
    found = held[1]
    _show_refused(found.errors, len(found))
    for note in found.notes:
        st.caption(plain(note))
    return found


def _show_medium(name: str, data: bytes) -> None:
    if (player := {"sound": st.audio, "film": st.video}.get(medium(name))) is not None:
        player(data, format=mimetypes.guess_type(name)[0] or "video/mp4")
        return
    try:
        st.image(_thumbnail(name, data), width="stretch", alt=name)
    except SampleError:
        st.caption(":material/broken_image: not a picture")


def _uploads(kind: str, label: str, types: list[str], hint: str) -> dict[str, bytes]:
    """Uploaded files by name, kept across pages; new ones join the old ones until they are taken away. Of two different
    files of one name the first is kept, and the other told of."""
    kept: dict[str, bytes] = st.session_state.setdefault(f"uploads:{kind}", {})
    twice: set[str] = st.session_state.setdefault(f"uploads:{kind}:twice", set())
    turn = st.session_state.setdefault(f"uploads:{kind}:turn", 0)
    new = st.file_uploader(label, types, accept_multiple_files=True, key=f"uploader:{kind}:{turn}", help=hint)
    for file in new or []:
        data = file.getvalue()
        if file.name in kept:
            twice |= {file.name} if kept[file.name] != data else set()
        elif sum(map(len, kept.values())) + file.size > MAX_UPLOAD:
            st.error(f"{plain(file.name)}: together the files exceed {MAX_UPLOAD / 1e6:.0f} MB; use the command line.")
        else:
            kept[file.name] = data
    if kept and st.button(
        "Take the file away" if len(kept) == 1 else f"Take all {len(kept)} files away", key=f"clear:{kind}"
    ):
        for name in ("", ":twice", ":read"):
            st.session_state.pop(f"uploads:{kind}{name}", None)
        st.session_state[f"uploads:{kind}:turn"] = turn + 1
        st.rerun()
    return kept


def _twice(kind: str, cure: str) -> set[str]:
    """Names that two different uploads have, told with what to do."""
    names = st.session_state.get(f"uploads:{kind}:twice", set())
    for name in sorted(names):
        st.error(f"Two different files are called {plain(name)}; {cure}", icon=":material/error:")
    return names


def _show_refused(refused: Sequence[str], good: int) -> None:
    if refused:
        kept = f" The other {good} samples are kept." if good else ""
        st.error(f"{len(refused)} could not be used.{kept}", icon=":material/error:")
        more = [f"and {len(refused) - MOST_REFUSED:,} more"] if len(refused) > MOST_REFUSED else []
        st.markdown("\n".join(f"- {plain(reason)}" for reason in [*refused[:MOST_REFUSED], *more]))


@st.cache_data(max_entries=512, show_spinner=False)
def _thumbnail(name: str, data: bytes):
    return thumbnail(ImageSource(name, data=data), 2 * PICTURE_WIDTH)


def _preview(samples: Sequence[Sample]) -> None:
    """The first samples as small pictures with their text; as many in a row as fit."""
    with st.container(horizontal=True, gap="small"):
        for sample in samples[:SHOWN]:
            with st.container(width=PICTURE_WIDTH, gap=None):
                if sample.images:
                    _preview_picture(sample.images[0])
                for icon, sources in (("movie", sample.videos), ("graphic_eq", sample.audio)):
                    for source in sources:
                        st.caption(f":material/{icon}: {plain(source.name)}")
                st.caption(plain(sample.text[:120]))
    if len(samples) > SHOWN:
        st.caption(f"… and {len(samples) - SHOWN} more.")


def _preview_picture(source: ImageSource) -> None:
    try:
        st.image(_thumbnail(source.name, source.read()), width=PICTURE_WIDTH, alt=source.name)
    except SampleError:  # it will be named as left out when the work is done
        st.caption(":material/broken_image: damaged")
