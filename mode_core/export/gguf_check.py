"""A finished GGUF file against the plan it was made from: does every expert tensor have the type that was asked for?"""

from __future__ import annotations

import json
import re
from pathlib import Path

from mode_core.export.folder import MANIFEST, ExportError
from mode_core.export.ggml_types import TYPES
from mode_core.export.gguf_file import CHOSEN
from mode_core.export.llama_quantize import RULES

NAMES = {kind.id: kind.name for kind in TYPES.values()}
SHOWN = 4  # differences that are told one by one


def verify_gguf(file: str | Path, export: str | Path | None = None) -> dict[str, object]:
    """Compare the types in `file` with those planned in the folder of the export (by default the file's own).

    Returns the file, how many tensors were compared, and how many of them have each type.

    Raises:
        ExportError: not a GGUF file; a folder that plans none; a tensor that is missing or has another type.
    """
    folder = Path(file).parent if export is None else Path(export)
    planned, held = planned_types(folder), stored_types(Path(file))
    wrong = [
        f"{name} is {held.get(name, 'not in the file')} where {kind} was planned"
        for name, kind in planned.items()
        if held.get(name) != kind
    ]
    if wrong:
        more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise ExportError(f"{file} is not as planned in {folder}: {'; '.join(wrong[:SHOWN])}{more}.")
    kinds = sorted(set(planned.values()))
    counts = {kind: sum(each == kind for each in planned.values()) for kind in kinds}
    return {"file": str(file), "as_planned": True, "tensors": len(planned), "types": counts}


def planned_types(folder: Path) -> dict[str, str]:
    """Tensor → type, from an export's manifest (`gguf`) or its rules (`gguf_script`).

    Raises:
        ExportError: the folder is no such export.
    """
    try:
        if (folder / RULES).is_file():
            lines = (folder / RULES).read_text(encoding="utf-8").splitlines()
            split = (line.rsplit("=", 1) for line in lines)
            return {re.sub(r"\\(.)", r"\1", pattern.strip("^$")): kind.upper() for pattern, kind in split}
        settings = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["allocation"]["settings"]
        return dict(settings[CHOSEN])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        raise ExportError(
            f"{folder} holds no plan of types ({RULES}, or a manifest of the target 'gguf'); name the export's folder "
            "with --out."
        ) from None


def stored_types(file: Path) -> dict[str, str]:
    """Tensor → type in a GGUF file; a type that is not known here by its number. Reads the header alone.

    Raises:
        ExportError: no such file, or no GGUF file.
    """
    from gguf import GGUFReader

    class Types(GGUFReader):
        """Stops where gguf-py would refuse types that it has no name for."""

        def _build_tensors(self, start_offs: int, fields: list) -> None:
            self.types = {field.name: int(field.parts[4][0]) for field in fields}

    try:
        found = Types(file).types
    except (OSError, ValueError, IndexError) as broken:
        raise ExportError(f"{file} is not a readable GGUF file ({broken}).") from None
    return {name: NAMES.get(number, f"type {number}") for name, number in found.items()}
