"""What lies in an export and where it came from: manifest.json."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mode_core.allocation.records import Allocation
from mode_core.export.card import loading
from mode_core.export.folder import FORMAT, MANIFEST
from mode_core.export.request import Request
from mode_core.versions import versions

if TYPE_CHECKING:
    from mode_core.export.target import Fitted, Target

READ_AT_ONCE = 1 << 20


def build_manifest(
    target: Target, request: Request, fitted: Fitted, notes: tuple[str, ...], folder: Path
) -> dict[str, object]:
    """Everything a reader needs to know about the files in `folder`, with their sizes and SHA-256 sums.

    `predicted_expert_bytes` counts packed codes, scales and zero points of the experts; `bytes` are all files here.
    """
    allocation, sizes = request.allocation, request.packed_bytes()
    statistics = request.statistics
    files = {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": checksum(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    return {
        "format": FORMAT,
        "target": target.name,
        "title": target.title,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": request.source or {},
        "run": None if statistics is None else {"digest": statistics.digest(), "settings": dict(statistics.settings)},
        "allocation": {
            "method": allocation.method,
            "settings": dict(allocation.settings),
            "scope": allocation.scope,
            "unit": allocation.unit,
            "widths": list(allocation.widths),
            "experts_at_each_width": _counts(allocation),
            "average_bits": allocation.average_bits,
            "predicted_loss": allocation.objective,
            "lower_bound": allocation.lower_bound,
            "proven_optimal": allocation.proven_optimal,
        },
        "price_of_unit": fitted.price,
        "notes": [*fitted.notes, *notes],
        "quantizer": request.quantizer.to_dict() | request.quantizer.grid,
        "predicted_expert_bytes": None if sizes is None else int(sum(size.sum() for size in sizes.values())),
        "finest_unit": target.finest_unit,
        "engines": target.engines,
        "proof": target.proof,
        "warning": target.warning,
        "load": loading(target, request),
        "versions": versions(),
        "bytes": sum(entry["bytes"] for entry in files.values()),
        "files": files,
    }


def _counts(allocation: Allocation) -> dict[str, int]:
    """How many experts (or projections of experts) have each width."""
    widths, counts = np.unique(np.concatenate([np.ravel(b) for b in allocation.bits.values()]), return_counts=True)
    return {f"{width} bits": int(count) for width, count in zip(widths, counts, strict=True)}


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    seal = hashlib.sha256()
    with path.open("rb") as opened:
        while part := opened.read(READ_AT_ONCE):
            seal.update(part)
    return seal.hexdigest()
