"""A plain checkpoint whose expert weights are the values of the quantized codes."""

from __future__ import annotations

from pathlib import Path

from mode_core.export.checkpoint import write_checkpoint
from mode_core.export.request import Request
from mode_core.export.weights import Weights, open_weights


def write_dequantized(request: Request, folder: Path) -> tuple[str, ...]:
    """Write the source again, its experts at the values of their codes: same names, layout and types.

    It takes as much room as the original: this is for tools that evaluate, not for saving memory. Memory: one bank
    beside what `weights.Weights` needs.

    Raises:
        ExportError: no model at hand.
    """
    return write_checkpoint(open_weights(request), folder, Weights.replaced)
