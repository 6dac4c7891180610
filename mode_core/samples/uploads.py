"""Samples from files that a person dropped into the browser."""

from __future__ import annotations

from collections.abc import Mapping

from mode_core.samples.files import MAX_IMAGE_BYTES, MemoryFiles, unzip
from mode_core.samples.reading import TABLE_SUFFIXES, SampleList, picture_sample, samples_of
from mode_core.samples.records import IMAGE_SUFFIXES, ImageSource, SampleError


def samples_from_uploads(files: Mapping[str, bytes], texts: Mapping[str, str] | str | None = None) -> SampleList:
    """Uploaded files → samples; what is refused goes to `.errors`, file by file.

    Either a JSONL, CSV or ShareGPT4V JSON with its pictures, or a zip of these, or pictures alone with a question
    each: `texts` maps the pictures' names to their questions (or is one question for all). Text files of the same name
    serve as questions where `texts` has none.

    Memory: the uploaded bytes, and an opened zip (at most `MAX_ARCHIVE_BYTES`).

    Raises:
        SampleError: nothing usable at all, or a zip that is refused.
    """
    if not files:
        raise SampleError("No files were uploaded. Choose pictures, or a JSONL or CSV with its pictures.")
    opened: dict[str, bytes] = {}
    for name, data in files.items():
        opened |= unzip(name, data) if name.lower().endswith(".zip") else {name: data}
    if any(name.lower().endswith(TABLE_SUFFIXES) for name in opened):
        return samples_of(MemoryFiles(opened), "collect", "The upload")
    return _pictures(opened, texts)


def _pictures(files: Mapping[str, bytes], texts: Mapping[str, str] | str | None) -> SampleList:
    found = SampleList()
    for name, data in files.items():
        if name.lower().endswith(".txt"):
            continue
        try:
            sample = picture_sample(_picture(name, data), _question(name, files, texts))
            if sample.id in {other.id for other in found}:
                raise SampleError("the same picture with the same question was uploaded before. Drop one.")
            found.append(sample)
        except SampleError as refused:
            text = str(refused)
            found.errors.append(text if text.startswith(name) else f"{name}: {text}")
    if not found:
        raise SampleError(f"No usable picture among {len(files)} files. First error: {found.errors[0]}")
    return found


def _picture(name: str, data: bytes) -> ImageSource:
    if not name.lower().endswith(IMAGE_SUFFIXES):
        raise SampleError(f"not a picture, table or zip. Use {', '.join(IMAGE_SUFFIXES)}, .jsonl, .csv, .json or .zip.")
    if len(data) > MAX_IMAGE_BYTES:
        raise SampleError(f"more than {MAX_IMAGE_BYTES / 1e6:.0f} MB. Make it smaller.")
    return ImageSource(name, data=data)


def _question(name: str, files: Mapping[str, bytes], texts: Mapping[str, str] | str | None) -> str:
    given = texts if isinstance(texts, str) else (texts or {}).get(name, "")
    note = files.get(f"{name.rsplit('.', 1)[0]}.txt")
    text = given.strip() or (note.decode("utf-8", errors="replace").strip() if note else "")
    if not text:
        raise SampleError("no question for this picture. Write one beside it.")
    return text
