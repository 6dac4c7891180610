"""Folders that are written whole or not at all."""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from typing_extensions import TypedDict

from mode_core.errors import ExportError
from mode_core.json_files import check_format, checked, read_json

try:
    import fcntl
except ImportError:  # not on Windows: leftovers of killed exports stay there
    fcntl = None

MANIFEST = "manifest.json"
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

    Files are flushed to the disk before the rename. After an error or a cancel the temporary folder is gone
    and what was at `directory` is untouched. After a kill the temporary folder (`.name.….part`) stays until the next
    export to the same place, which takes it away.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    _sweep(directory)
    building = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}.", suffix=".part"))
    with _held(building):
        try:
            building.chmod(0o755)
            yield building
            _flush(building)
            _take_place(building, directory)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise


@contextmanager
def _held(building: Path) -> Iterator[bool]:
    """Lock a folder for as long as the block runs; false where another process has it. A kill gives it free."""
    if fcntl is None:
        yield False
        return
    handle = os.open(building, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        yield False
        return
    try:
        yield True
    finally:
        os.close(handle)


def _sweep(directory: Path) -> None:
    """Remove what killed exports to the same place left behind; folders still being written are held."""
    for left in directory.parent.glob(f".{glob.escape(directory.name)}.*.part"):
        with _held(left) as free:
            if free:
                shutil.rmtree(left, ignore_errors=True)


def _flush(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _take_place(building: Path, directory: Path) -> None:
    """Rename over an absent or empty folder, or swap with an earlier export."""
    if not directory.exists() or not any(directory.iterdir()):
        building.replace(directory)
        return
    earlier = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}.", suffix=".old"))
    directory.replace(earlier)
    try:
        building.replace(directory)
    except BaseException:
        earlier.replace(directory)
        raise
    shutil.rmtree(earlier)
