"""Files that are written whole or not at all, and tensors that are read without executing anything."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save as safetensors_save


def atomic_write(path: Path, content: bytes | str) -> None:
    """Write `content` to `path` through a temporary name, fsync and rename; a failure leaves the old file.

    Raises:
        OSError: the disk is full or the folder cannot be written; no part of the new file stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
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


def tensor_bytes(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> bytes:
    """A safetensors file's bytes for named arrays."""
    whole = {key: np.ascontiguousarray(value) for key, value in tensors.items()}
    return safetensors_save(whole, metadata=dict(metadata or {}))


def read_tensors(path: Path, error: type[Exception]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """All arrays and the metadata of a safetensors file; every refusal is raised as `error` naming the file."""
    from safetensors import safe_open

    if not path.is_file():
        raise error(f"There is no file {path}.")
    try:
        with safe_open(str(path), framework="numpy") as opened:
            return {key: opened.get_tensor(key) for key in opened.keys()}, dict(opened.metadata() or {})  # noqa: SIM118
    except SafetensorError as broken:
        raise error(f"{path} is not a readable safetensors file ({broken}); it may be cut off. Make it anew.") from None
