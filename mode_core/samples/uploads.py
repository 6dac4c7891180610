"""Samples from files that a person dropped into the browser."""

from __future__ import annotations

from collections.abc import Mapping

from mode_core.samples.archives import MAX_ARCHIVE_BYTES, unzip
from mode_core.samples.files import MAX_IMAGE_BYTES, MemoryFiles
from mode_core.samples.images import LONE_SUFFIXES, medium
from mode_core.samples.reading import SampleList, lone_sample, samples_of
from mode_core.samples.records import ImageSource, Sample, SampleError
from mode_core.samples.tables import TABLE_SUFFIXES
from mode_core.samples.without_samples import foreign_file


def samples_from_uploads(files: Mapping[str, bytes], texts: Mapping[str, str] | str | None = None) -> SampleList:
    """Uploaded files → samples; what is refused goes to `.errors`, file by file.

    Either tables with their media, or zips of these, or pictures, sounds and films alone with a question each:
    `texts` maps the files' names to their questions (or is one question for all). Text files of the same name serve as
    questions where `texts` has none.

    Memory: the uploaded bytes, and opened zips (at most `MAX_ARCHIVE_BYTES` together).

    Raises:
        SampleError: nothing usable at all.
    """
    if not files:
        raise SampleError("No files were uploaded. Choose pictures, or a JSONL or CSV with its pictures.")
    refused: list[str] = []
    opened, flat = _opened(files, refused)
    if not opened:
        raise SampleError(f"None of the {len(files)} files can be used. First error: {refused[0]}")
    if any(name.lower().endswith(TABLE_SUFFIXES) for name in opened):
        held = MemoryFiles(opened, flat)
        found = _without_mistaken(samples_of(held, "The upload", "collect"), held)
    else:
        found = _pictures(opened, texts)
    found.errors[:0] = refused
    return found


def _opened(files: Mapping[str, bytes], refused: list[str]) -> tuple[dict[str, bytes], frozenset[str]]:
    """All files, those of zips among them, and the names of those that came without a folder."""
    opened: dict[str, bytes] = {}
    flat, room, twice = set(), MAX_ARCHIVE_BYTES, set()
    for name, data in files.items():
        try:
            held = unzip(name, data, room) if name.lower().endswith(".zip") else {name: data}
        except SampleError as broken:
            refused.append(str(broken))
            continue
        if held.get(name) is data:
            flat.add(name)
        else:
            room -= sum(map(len, held.values()))
        twice |= {place for place, content in held.items() if opened.get(place, content) != content}
        opened |= held
    for place in sorted(twice):
        refused.append(f"two different files are called {place}; neither is used. Put all into one zip with folders.")
    return {name: data for name, data in opened.items() if name not in twice}, frozenset(flat - twice)


def _without_mistaken(found: SampleList, files: MemoryFiles) -> SampleList:
    """Without samples whose picture or sound is one file for several paths: browsers send names without their
    folders."""
    mistaken = {data: asked for data, asked in files.asked.items() if len(asked) > 1}
    if not mistaken:
        return found
    wrong = {id(files.files[name]): (name, sorted(asked)) for name, asked in mistaken.items()}
    kept, places = [], []
    for place, sample in zip(found.places, found, strict=True):
        if (clash := next((wrong[id(s.data)] for s in _sources(sample) if id(s.data) in wrong), None)) is None:
            kept.append(sample)
            places.append(place)
            continue
        name, asked = clash
        found.errors.append(
            f"{sample.id}: {' and '.join(asked[:3])} would both be the one file {name}, since a browser sends names "
            "without folders. Put the table and its folders into a zip, and upload that."
        )
    if not kept:
        raise SampleError(f"The upload holds no usable sample. First error: {found.errors[0]}")
    found[:], found.places = kept, places
    return found


def _sources(sample: Sample) -> list[ImageSource]:
    frames = [source for video in sample.videos for source in (*video.frames, video.animation, video.film)]
    return [*sample.images, *filter(None, frames), *(sound.file for sound in sample.audio)]


def _pictures(files: Mapping[str, bytes], texts: Mapping[str, str] | str | None) -> SampleList:
    found = SampleList()
    for name, data in files.items():
        if name.lower().endswith(".txt"):
            continue
        try:
            sample = lone_sample(_medium(name, data), _question(name, files, texts))
            if sample.id in {other.id for other in found}:
                raise SampleError(f"the same {medium(name)} with the same question was uploaded before. Drop one.")
            found.append(sample)
        except SampleError as refused:
            text = str(refused)
            found.errors.append(text if text.startswith(name) else f"{name}: {text}")
    if not found:
        reason = f" First error: {found.errors[0]}" if found.errors else ""
        raise SampleError(f"No usable picture, sound or film among {len(files)} files.{reason}")
    return found


def _medium(name: str, data: bytes) -> ImageSource:
    if told := foreign_file(name):
        raise SampleError(told)
    if not name.lower().endswith(LONE_SUFFIXES):
        kinds = ", ".join((*LONE_SUFFIXES, *TABLE_SUFFIXES))
        raise SampleError(f"not a picture, sound, film, table or zip. Use {kinds} or .zip.")
    if len(data) > MAX_IMAGE_BYTES:
        raise SampleError(f"more than {MAX_IMAGE_BYTES / 1e6:.0f} MB. Make it smaller.")
    return ImageSource(name, data=data)


def _question(name: str, files: Mapping[str, bytes], texts: Mapping[str, str] | str | None) -> str:
    given = texts if isinstance(texts, str) else (texts or {}).get(name, "")
    note = files.get(f"{name.rsplit('.', 1)[0]}.txt")
    text = given.strip() or (note.decode("utf-8", errors="replace").strip() if note else "")
    if not text:
        raise SampleError(f"no question for this {medium(name)}. Write one beside it.")
    return text
