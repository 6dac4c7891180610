"""Which experts of a bank are alike, by the rows of its router's weight: read from the checkpoint, one bank at a time.

A router scores expert e by the product of a token with row e, and takes the highest. What all rows share changes no
choice, so their mean is taken away first; the cosine of two rows is then near 1 where both experts want the same
tokens. It says nothing of what the experts do with them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mode_core.models.bank_search import ROUTERS
from mode_core.models.checkpoint_files import CheckpointFiles
from mode_core.models.errors import ModelError


def router_rows(folder: str | Path, bank: str, experts: int, hidden: int) -> np.ndarray:
    """The router's weight of one bank, float32 `[experts, hidden]`. Memory: that alone.

    Raises:
        ModelError: files that cannot be read, or no single tensor of that place and shape among them.
    """
    block = bank.rpartition(".")[0]
    place = block[block.find("layers.") :]  # what stands before it, files and modules call otherwise
    with CheckpointFiles(folder) as files:
        shapes = {(experts, hidden), (hidden, experts)}
        found = [
            name
            for name in files.names
            if f".{name}".rpartition(".weight")[0].endswith(tuple(f".{place}.{router}" for router in ROUTERS))
            and files.shape(name) in shapes
        ]
        if len(found) != 1:
            raise ModelError(
                f"{folder}: {len(found) or 'no'} tensors could be the router of {bank} "
                f"({' or '.join(ROUTERS)}, {experts} × {hidden}), so which experts are alike is not known."
            )
        rows = files.read(found[0]).float().numpy()
    return rows if rows.shape == (experts, hidden) else np.ascontiguousarray(rows.T)


def alike(rows: np.ndarray) -> np.ndarray:
    """Cosine of every two rows after their mean was taken away: `[E, H]` → `[E, E]` in −1 to 1, 1 on the diagonal; NaN
    for a row that is the mean itself."""
    apart = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)
    lengths = np.linalg.norm(apart, axis=1, keepdims=True)
    directions = np.divide(apart, lengths, where=lengths > 0, out=np.full_like(apart, np.nan))
    return np.clip(directions @ directions.T, -1, 1)
