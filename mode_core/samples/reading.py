"""Read samples from a folder, JSONL, CSV, ShareGPT4V JSON or zip, each line with its own error."""

from __future__ import annotations

import csv
import io
import json
import posixpath
from collections.abc import Callable, Iterator
from pathlib import Path

from mode_core.samples.entries import sample_from_entry
from mode_core.samples.files import Files, FolderFiles, MemoryFiles, unzip
from mode_core.samples.records import IMAGE_SUFFIXES, ImageSource, Sample, SampleError

MAX_SAMPLES = 100_000
TABLE_SUFFIXES = (".jsonl", ".json", ".csv")
PREFERRED = "samples.jsonl"
Numbered = Iterator[tuple[str, object]]  # (where it stands, an entry or the error of reading it)


class SampleList(list[Sample]):
    """Samples that were read, and `errors`: what was refused, in words, with file and line."""

    def __init__(self, samples: list[Sample] | None = None, errors: list[str] | None = None):
        super().__init__(samples or [])
        self.errors: list[str] = errors or []


def read_samples(path: str | Path, on_error: str = "raise") -> SampleList:
    """Samples from a folder, a JSONL, JSON (ShareGPT4V) or CSV file, or a zip of these.

    A folder holds `samples.jsonl`, or any tables, or pictures with a text file of the same name each. Pictures are
    looked at, but decoded only when they are used.

    Args:
        on_error: "raise" at the first bad sample, or "collect" bad ones in the list's `.errors`.

    Raises:
        SampleError: nothing to read, a bad sample (with "raise"), or none good (with "collect").
    """
    path = Path(path)
    if not path.exists():
        raise SampleError(f"There is nothing at {path}. Give a folder of samples, or a JSONL, CSV, JSON or zip file.")
    if path.is_dir():
        return samples_of(FolderFiles(path), on_error, str(path))
    if path.suffix.lower() == ".zip":
        return samples_of(MemoryFiles(unzip(path.name, path)), on_error, path.name)
    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise SampleError(f"{path.name} is no table of samples; use {', '.join(TABLE_SUFFIXES)}, .zip, or a folder.")
    return samples_of(FolderFiles(path.parent, (path.name,)), on_error, path.name)


def samples_of(files: Files, on_error: str = "raise", called: str = "the files") -> SampleList:
    """Samples from named files: their tables, or else pictures with a text file each. See `read_samples`."""
    if on_error not in ("raise", "collect"):
        raise ValueError(f"on_error must be 'raise' or 'collect'; got {on_error!r}.")
    found, seen = SampleList(), {}
    for where, made in _attempts(files, called):
        try:
            sample = _finish(made)
            if sample.id in seen:
                raise SampleError(f"the same id ({sample.id}) as {seen[sample.id]}. Drop one, or give another id.")
        except SampleError as refused:
            text = f"{where}: {refused}" if where else str(refused)
            if on_error == "raise":
                raise SampleError(text) from None
            found.errors.append(text)
            continue
        seen[sample.id] = where
        found.append(sample)
        if len(found) > MAX_SAMPLES:
            raise SampleError(f"{called} holds more than {MAX_SAMPLES:,} samples; split it.")
    if not found:
        more = f" First of {len(found.errors)} errors: {found.errors[0]}" if found.errors else ""
        raise SampleError(f"{called} holds no usable sample.{more}")
    return found


def _finish(made: object) -> Sample:
    if isinstance(made, SampleError):
        raise made
    return made()


def _attempts(files: Files, called: str) -> Iterator[tuple[str, SampleError | Callable[[], Sample]]]:
    """(where, how to make the sample) for everything that looks like one."""
    names = files.names()
    tables = [name for name in names if name.lower().endswith(TABLE_SUFFIXES)]
    best = [name for name in tables if posixpath.basename(name) == PREFERRED]
    if not tables:
        yield from _captioned(files, names, called)
    for table in best or tables:
        for where, entry in _entries(table, files):
            if isinstance(entry, SampleError):
                yield where, entry
            else:
                yield where, lambda e=entry, t=table: sample_from_entry(e, lambda name: files.image(name, t))


def _entries(table: str, files: Files) -> Numbered:
    try:
        text = files.read(table).decode("utf-8-sig")
    except UnicodeDecodeError as broken:
        yield table, SampleError(f"not readable as UTF-8 text (byte {broken.start}); save it as UTF-8.")
        return
    reader = {"jsonl": _jsonl, "json": _json, "csv": _csv}[table.lower().rsplit(".", 1)[1]]
    yield from reader(table, text)


def _jsonl(table: str, text: str) -> Numbered:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            where = f"{table}, line {number}"
            try:
                yield where, json.loads(line)
            except (json.JSONDecodeError, RecursionError) as broken:
                yield where, SampleError(f"not valid JSON ({broken}). Each line is one JSON object.")


def _json(table: str, text: str) -> Numbered:
    try:
        whole = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as broken:
        yield table, SampleError(f"not valid JSON ({broken}).")
        return
    if not isinstance(whole, list):
        yield table, SampleError(f"expected a list of samples, as ShareGPT4V has it; got {type(whole).__name__}.")
        return
    yield from ((f"{table}, entry {number}", entry) for number, entry in enumerate(whole, 1))


def _csv(table: str, text: str) -> Numbered:
    """Columns image and video (several separated by ';'), text or question, answer, task, id."""
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in rows:
            entry = {str(key).strip().lower(): value for key, value in row.items() if key is not None}
            if isinstance(names := entry.pop("image", entry.pop("images", None)), str):
                entry["images"] = [name.strip() for name in names.split(";") if name.strip()]
            if isinstance(names := entry.pop("video", entry.pop("videos", None)), str):
                entry["videos"] = [name.strip() for name in names.split(";") if name.strip()]
            yield f"{table}, line {rows.line_num}", entry
    except csv.Error as broken:
        yield f"{table}, line {rows.line_num}", SampleError(f"not valid CSV ({broken}).")


def _captioned(files: Files, names: list[str], called: str) -> Iterator[tuple[str, SampleError | Callable[[], Sample]]]:
    """Pictures with a text file of the same name."""
    pictures = [name for name in names if name.lower().endswith(IMAGE_SUFFIXES)]
    if not pictures:
        held = ", ".join(names[:5]) or "nothing"
        yield "", SampleError(f"{called} holds no samples.jsonl, no table and no pictures (it holds: {held}).")
    for name in pictures:
        note = f"{name.rsplit('.', 1)[0]}.txt"
        if note not in names:
            yield (
                name,
                SampleError(f"no text for this picture; write its question into {note}."),
            )
            continue
        yield name, lambda name=name, note=note: picture_sample(files.image(name, ""), _note(files, note))


def _note(files: Files, name: str) -> str:
    try:
        return files.read(name).decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise SampleError(f"{name} is not readable as UTF-8 text.") from None


def picture_sample(image: ImageSource, text: str) -> Sample:
    """One picture and one question."""
    image.check()
    return Sample((image,), ({"role": "user", "content": text},))
