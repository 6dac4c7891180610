"""A folder as one file to download."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from mode_core.runs.run import Run


def zipped(folder: Path) -> bytes:
    """All files of a folder as one zip, under the folder's name; locks and what is unfinished stay."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in Run.files(folder):
            archive.write(path, (Path(folder.name) / path.relative_to(folder)).as_posix())
    return held.getvalue()
