"""Files that are written whole or not at all, one writer to a folder, and tensors read without executing anything."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save as safetensors_save

from mode_core.errors import BusyError, ModeError

LFS_POINTER = b"version https://git-lfs.github.com/spec/"  # how a file begins that git left in place of a large one
LOCK = ".lock"  # in a folder that one process writes
PART = ".part"  # ends the name of what is not whole yet; between them this machine's mark and the process
HERE = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]
ABANDONED = 24 * 3600  # seconds after which a part of another machine's process counts as left behind


def part_prefix(name: str) -> str:
    """How the temporary name of a file or folder begins, so that a killed process' leftovers are known as such."""
    return f".{name}.{HERE}-{os.getpid()}."


def atomic_write(path: Path, content: bytes | str) -> None:
    """Write `content` to `path` through a temporary name, fsync and rename; a failure leaves the old file.

    Raises:
        OSError: the disk is full or the folder cannot be written; it names `path`, and no part of the new file stays.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=part_prefix(path.name), suffix=PART)
        try:
            with os.fdopen(handle, "wb") as out:
                out.write(data)
                out.flush()
                os.fsync(out.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as failure:
        if failure.errno is not None:
            failure.filename, failure.filename2 = str(path), None  # the temporary name tells nobody anything
        raise


def left_behind(folder: Path, pattern: str = ".*") -> list[Path]:
    """Temporary files and folders directly in `folder` whose process has ended."""
    leftovers = []
    for path in folder.glob(f"{pattern}{PART}"):
        made = re.search(r"\.([0-9a-f]{6})-(\d+)\.[^.]*\.part$", path.name)
        try:
            ended = not _alive(int(made[2])) if made and made[1] == HERE else _age(path) > ABANDONED
        except FileNotFoundError:  # finished meanwhile
            continue
        leftovers += [path] * ended
    return leftovers


def sweep(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder and in those directly under it."""
    for place in (folder, *(each for each in folder.iterdir() if each.is_dir())):
        for path in left_behind(place):
            try:
                path.unlink(missing_ok=True)
            except OSError:  # a folder of somebody else's, or one that may not be written: it stays
                continue


def process_ended(process: Mapping[str, object]) -> bool:
    """Has this process (`pid`, `host`) certainly ended? Of other machines' nobody can say."""
    pid = process.get("pid")
    return process.get("host") == socket.gethostname() and isinstance(pid, int) and not _alive(pid)


def _alive(process: int) -> bool:
    import psutil

    return process < 1 << 31 and psutil.pid_exists(process)


def _age(path: Path) -> float:
    return time.time() - path.stat().st_mtime


@contextmanager
def writing(lock: Path, what: str) -> Iterator[None]:
    """Hold the lock file `lock` while the block runs; a lock of a killed process gives way by itself.

    Raises:
        BusyError: another process, which is named, has it; `what` says what it writes.
        OSError: the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    held = FileLock(lock, thread_local=False)
    try:
        held.acquire(blocking=False)
    except Timeout:
        raise BusyError(
            f"{what} is being written by {_holder(lock)}. Wait until that has ended, or choose another place."
        ) from None
    own = not lock.read_bytes().startswith(b"filelock")  # else the disk has no locks, and filelock keeps its own notes
    try:
        if own:
            lock.write_text(f"pid={os.getpid()}\nhost={socket.gethostname()}\n", encoding="utf-8")
        yield
    finally:
        if own:
            lock.unlink(missing_ok=True)
        held.release()


def _holder(lock: Path) -> str:
    try:
        told = dict(re.findall(r"^(pid|host)=(.+)$", lock.read_text(encoding="utf-8"), re.MULTILINE))
    except (OSError, UnicodeDecodeError):
        told = {}
    return f"process {told['pid']} on {told.get('host', 'this machine')}" if "pid" in told else "another process"


def tensor_bytes(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> bytes:
    """A safetensors file's bytes for named arrays."""
    whole = {key: np.ascontiguousarray(value) for key, value in tensors.items()}
    return safetensors_save(whole, metadata=dict(metadata or {}))


def read_tensors(path: Path, error: type[ModeError]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """All arrays and the metadata of a safetensors file; every refusal is raised as `error` naming the file.

    The library checks each array's claimed size against the file's before it takes memory for it.
    """
    from safetensors import safe_open

    if not path.is_file():
        raise error(f"There is no file {path}.")
    try:
        with safe_open(str(path), framework="numpy") as opened:
            return {key: opened.get_tensor(key) for key in opened.keys()}, dict(opened.metadata() or {})  # noqa: SIM118
    except (SafetensorError, TypeError, ValueError, AttributeError, KeyError, OverflowError, MemoryError) as broken:
        reason = str(broken).splitlines()[0][:200] if str(broken) else type(broken).__name__
        raise error(f"{path} is not a readable safetensors file ({reason}); it may be cut off. Make it anew.") from None
