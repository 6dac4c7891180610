"""Where samples are read from: a folder on disk, or files in memory (uploads, an opened zip). Nothing outside it."""

from __future__ import annotations

import io
import posixpath
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from mode_core.samples.records import MAX_IMAGE_BYTES, ImageSource, SampleError

MAX_TABLE_BYTES = 256_000_000  # one JSONL, JSON or CSV file
MAX_ARCHIVE_BYTES = 1_000_000_000  # all files of a zip, unpacked (they are held in memory)
MAX_ARCHIVE_FILES = 100_000
MAX_RATIO = 200  # unpacked ÷ packed size of one file of a zip; pictures hardly pack at all
_SMALL = 1_000_000  # files below this may pack better than that (an empty table, a blank picture)


class Files(Protocol):
    """Named files; names are relative, with forward slashes."""

    def names(self) -> list[str]: ...

    def read(self, name: str) -> bytes: ...

    def image(self, name: str, beside: str) -> ImageSource: ...


def inside(name: str, folder: str = "") -> str:
    """`name` relative to `folder`, with forward slashes and without dots.

    Raises:
        SampleError: the name is absolute, or leads out of the samples' own folder.
    """
    plain = name.replace("\\", "/")
    joined = posixpath.normpath(posixpath.join(folder, plain))
    if plain.startswith("/") or plain[1:3] == ":/" or joined == ".." or joined.startswith("../"):
        raise SampleError(
            f"the path {name!r} leads outside the samples' folder, which is refused. Put the file into the folder."
        )
    return joined


class FolderFiles:
    """The files of one folder on disk. Pictures are opened when needed; links that lead outside are refused."""

    def __init__(self, root: Path, only: tuple[str, ...] | None = None):
        self.root, self.only = root.resolve(), only

    def names(self) -> list[str]:
        if self.only is not None:
            return list(self.only)
        return sorted(path.name for path in self.root.iterdir() if path.is_file())

    def read(self, name: str) -> bytes:
        path = self.root / name
        if (size := path.stat().st_size) > MAX_TABLE_BYTES:
            raise SampleError(f"{name} has {size / 1e6:.0f} MB; at most {MAX_TABLE_BYTES / 1e6:.0f} MB are read.")
        return path.read_bytes()

    def image(self, name: str, beside: str) -> ImageSource:
        path = (self.root / inside(name, posixpath.dirname(beside))).resolve()
        if not path.is_relative_to(self.root):
            raise SampleError(f"the picture {name!r} is a link out of the samples' folder, which is refused.")
        if not path.is_file():
            raise SampleError(f"there is no picture {name!r} beside the table. Correct the path, or drop the line.")
        if path.stat().st_size > MAX_IMAGE_BYTES:
            raise SampleError(f"the picture {name!r} has more than {MAX_IMAGE_BYTES / 1e6:.0f} MB. Make it smaller.")
        return ImageSource(name, path=path)


class MemoryFiles:
    """Files that were uploaded, or come from a zip. A picture is found by its path, else by a name that is unique
    among the files (browsers upload files without their folders)."""

    def __init__(self, files: Mapping[str, bytes]):
        self.files = {inside(name): data for name, data in files.items()}
        self.by_name: dict[str, list[str]] = {}
        for name in self.files:
            self.by_name.setdefault(posixpath.basename(name), []).append(name)

    def names(self) -> list[str]:
        return sorted(self.files)

    def read(self, name: str) -> bytes:
        return self.files[name]

    def image(self, name: str, beside: str) -> ImageSource:
        place = inside(name, posixpath.dirname(beside))
        if place not in self.files:
            same = self.by_name.get(posixpath.basename(place), [])
            if len(same) != 1:
                why = "was not uploaded" if not same else f"could be any of {', '.join(same[:3])}"
                raise SampleError(f"the picture {name!r} {why}. Add it, or correct the path.")
            place = same[0]
        if len(self.files[place]) > MAX_IMAGE_BYTES:
            raise SampleError(f"the picture {name!r} has more than {MAX_IMAGE_BYTES / 1e6:.0f} MB. Make it smaller.")
        return ImageSource(name, data=self.files[place])


def unzip(name: str, archive: bytes | Path) -> dict[str, bytes]:
    """The files of a zip, in memory; nothing is written to disk.

    Memory: at most `MAX_ARCHIVE_BYTES`.

    Raises:
        SampleError: not a zip, encrypted, a name that leads outside, too many files, or too large once unpacked
            (counted while unpacking, whatever the archive says of itself).
    """
    source = io.BytesIO(archive) if isinstance(archive, bytes) else archive
    try:
        with zipfile.ZipFile(source) as opened:
            return _unpack(name, opened)
    except zipfile.BadZipFile as broken:
        raise SampleError(f"{name} is not a readable zip ({broken}); make it anew.") from None


def _unpack(name: str, archive: zipfile.ZipFile) -> dict[str, bytes]:
    entries = [entry for entry in archive.infolist() if not entry.is_dir() and not _is_clutter(entry.filename)]
    if len(entries) > MAX_ARCHIVE_FILES:
        raise SampleError(f"{name} holds {len(entries):,} files; at most {MAX_ARCHIVE_FILES:,} are read.")
    files, total = {}, 0
    for entry in entries:
        try:
            place = inside(entry.filename)
        except SampleError as refused:
            raise SampleError(f"{name}: {refused}") from None
        if entry.flag_bits & 1:
            raise SampleError(f"{name}: {entry.filename} is encrypted; make the zip without a password.")
        if entry.file_size > _SMALL and entry.file_size > MAX_RATIO * max(1, entry.compress_size):
            raise SampleError(f"{name}: {entry.filename} unpacks to over {MAX_RATIO} times its size; it is refused.")
        with archive.open(entry) as opened:
            data = opened.read(MAX_ARCHIVE_BYTES - total + 1)
        if (total := total + len(data)) > MAX_ARCHIVE_BYTES:
            raise SampleError(f"{name} unpacks to more than {MAX_ARCHIVE_BYTES / 1e6:.0f} MB; split it.")
        files[place] = data
    return files


def _is_clutter(name: str) -> bool:
    """Files that operating systems add to a zip."""
    return name.startswith("__MACOSX/") or posixpath.basename(name).startswith(".")
