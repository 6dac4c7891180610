"""Folders that are written whole or not at all."""

from __future__ import annotations

import ctypes
import glob
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from typing_extensions import TypedDict

from mode_core.errors import ExportError
from mode_core.files import LOCK, PART, part_prefix, writing
from mode_core.json_files import check_format, checked, read_json

MANIFEST = "manifest.json"
AT_CWD, RENAME_EXCHANGE = -100, 2  # of Linux' renameat2
FORMAT = "mode-export/1"


class _Manifest(TypedDict):
    """What is read of a manifest before an export takes its place."""

    format: str
    target: str


def check_destination(directory: Path, target: str) -> None:
    """Refuse a place where something else lies; an earlier export of the same target may be replaced.

    Raises:
        ExportError: the path is a file, or a folder with other content.
    """
    if not directory.exists():
        restore(directory)
    if directory.is_symlink() or directory.is_file():
        raise ExportError(f"{directory} is not a folder; choose another place for the export.")
    if not directory.exists() or not any(directory.iterdir()):
        return
    if _target_of(directory) != target:
        raise ExportError(
            f"{directory} holds something other than an earlier {target!r} export, and is left as it is; "
            "choose a new or empty folder."
        )


def _target_of(directory: Path) -> str | None:
    """The target whose export lies in that folder, or None where it is no export."""
    try:
        record = read_json(directory / MANIFEST, ExportError)
        check_format(record, FORMAT, directory / MANIFEST, ExportError, "manifest")
        return checked(record, _Manifest, directory / MANIFEST, ExportError)["target"]
    except ExportError:
        return None


@contextmanager
def whole_folder(directory: Path) -> Iterator[Path]:
    """A temporary folder beside `directory` that takes its place when the block ends without an error.

    Files are flushed to the disk before that. After an error or a cancel the temporary folder is gone and what was at
    `directory` is untouched. After a kill it stays (`.name.….part`) until the next export to the same place, which
    takes it away. A reader of `directory` finds the earlier export or the new one, whole, at every moment.

    Raises:
        BusyError: another process writes an export there.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    with writing(directory.parent / f".{directory.name}{LOCK}", f"The export {directory}"):
        restore(directory)
        for left in directory.parent.glob(f".{glob.escape(directory.name)}.*{PART}"):  # who left it held this lock
            shutil.rmtree(left, ignore_errors=True)
        building = Path(tempfile.mkdtemp(dir=directory.parent, prefix=part_prefix(directory.name), suffix=PART))
        try:
            building.chmod(0o755)
            yield building
            _flush(building)
            _take_place(building, directory)
        except OSError as failure:
            named = None if failure.filename is None else Path(os.fsdecode(failure.filename))
            if failure.errno is not None and (named is None or named.is_relative_to(building)):
                failure.filename = str(directory)  # the name that a person knows
            raise
        finally:
            shutil.rmtree(building, ignore_errors=True)


def restore(directory: Path) -> None:
    """Bring an export back that a process without exchanging renames had set aside (`.name.old`) when it was killed."""
    aside = directory.parent / f".{directory.name}.old"
    if aside.is_dir() and not directory.exists():
        aside.replace(directory)
    elif aside.is_dir():
        shutil.rmtree(aside, ignore_errors=True)


def _flush(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _take_place(building: Path, directory: Path) -> None:
    """Rename over an absent or empty folder, or change places with an earlier export, which `building` then is."""
    if not directory.exists() or not any(directory.iterdir()):
        building.replace(directory)
    elif not _exchanged(building, directory):
        aside = directory.parent / f".{directory.name}.old"
        directory.replace(aside)
        try:
            building.replace(directory)
        finally:
            restore(directory)


def _exchanged(one: Path, other: Path) -> bool:
    """Let two folders change places in one step (Linux); False where the system or the disk has no such step."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    return rename is not None and rename(AT_CWD, os.fsencode(one), AT_CWD, os.fsencode(other), RENAME_EXCHANGE) == 0
