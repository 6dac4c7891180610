"""A zip's files, in memory and within limits; nothing is written to disk, nothing outside is touched."""

from __future__ import annotations

import io
import lzma
import posixpath
import struct
import zipfile
import zlib
from pathlib import Path

from mode_core.samples.images import SampleError

MAX_ARCHIVE_BYTES = 1_000_000_000  # all files of all zips of one upload, unpacked (they are held in memory)
MAX_ARCHIVE_FILES = 100_000
MAX_RATIO = 200  # unpacked ÷ packed size of a file, and of a whole zip; pictures hardly pack at all
_SMALL = 1_000_000  # files below this may pack better than that (an empty table, a blank picture)
_DAMAGE = (zipfile.BadZipFile, RuntimeError, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError)
_DAMAGE += (LookupError, OverflowError, struct.error)  # zipfile lets them out at odd headers


def inside(name: str, folder: str = "") -> str:
    """`name` relative to `folder`, with forward slashes and without dots.

    Raises:
        SampleError: the name is absolute, or leads out of the samples' own folder.
    """
    plain = name.replace("\\", "/")
    joined = posixpath.normpath(posixpath.join(folder, plain))
    if plain.startswith("/") or plain[1:3] == ":/" or joined == ".." or joined.startswith("../"):
        raise SampleError(
            f"the path {name[:200]!r} leads outside the samples' folder, which is refused. Put the file into it."
        )
    return joined


def unzip(name: str, archive: bytes | Path, room: int | None = None) -> dict[str, bytes]:
    """The files of a zip.

    Memory: at most `room` bytes (default: `MAX_ARCHIVE_BYTES`).

    Raises:
        SampleError: not a zip, empty, encrypted, damaged, packed in an unusual way, a name that leads outside, too many
            files, or too large once unpacked (counted while unpacking, whatever the archive says of itself).
    """
    size = len(archive) if isinstance(archive, bytes) else archive.stat().st_size
    try:
        with zipfile.ZipFile(io.BytesIO(archive) if isinstance(archive, bytes) else archive) as opened:
            return _unpack(name, opened, size, MAX_ARCHIVE_BYTES if room is None else room)
    except SampleError:
        raise
    except _DAMAGE as broken:
        raise SampleError(f"{name} is not a readable zip ({broken}); make it anew.") from None


def _unpack(name: str, archive: zipfile.ZipFile, size: int, room: int) -> dict[str, bytes]:
    entries = [entry for entry in archive.infolist() if not entry.is_dir() and not _is_clutter(entry.filename)]
    if len(entries) > MAX_ARCHIVE_FILES:
        raise SampleError(f"{name} holds {len(entries):,} files; at most {MAX_ARCHIVE_FILES:,} are read.")
    files: dict[str, bytes] = {}
    total = 0
    for entry in entries:
        try:
            place = inside(entry.filename)
        except SampleError as refused:
            raise SampleError(f"{name}: {refused}") from None
        if entry.flag_bits & 1:
            raise SampleError(f"{name}: {entry.filename} is encrypted; make the zip without a password.")
        if place in files:
            raise SampleError(f"{name} holds two files called {place}; make it anew with one.")
        if entry.file_size > _SMALL and entry.file_size > MAX_RATIO * max(1, entry.compress_size):
            raise SampleError(f"{name}: {entry.filename} unpacks to over {MAX_RATIO} times its size; it is refused.")
        with archive.open(entry) as opened:
            data = opened.read(room - total + 1)
        if (total := total + len(data)) > room:
            raise SampleError(f"{name} unpacks to more than the {room / 1e6:.0f} MB that are left for it; split it.")
        if total > 10 * _SMALL and total > MAX_RATIO * size:
            raise SampleError(f"{name} unpacks to over {MAX_RATIO} times its size; it is refused.")
        files[place] = data
    if not files:
        raise SampleError(f"{name} holds no file; make it anew.")
    return files


def _is_clutter(name: str) -> bool:
    """Files that operating systems add to a zip."""
    return name.startswith("__MACOSX/") or posixpath.basename(name).startswith(".")
