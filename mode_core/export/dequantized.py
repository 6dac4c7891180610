"""A plain checkpoint whose expert weights are the values of the quantized codes."""

from __future__ import annotations

from pathlib import Path

from mode_core.export.checkpoint import write_checkpoint
from mode_core.export.request import Request
from mode_core.export.target import Said
from mode_core.export.weights import Weights, open_weights

SEPARATE_NOTE = (
    "The source has a tensor for every expert where transformers looks for fused ones, and so has what is written: "
    "stock from_pretrained starts such experts at random, with a warning alone. Engines that read the source read this."
)
SEPARATE_LINES = """\
from mode_core.models import load_model
loaded = load_model(".")
model, processor = loaded.model, loaded.processor
"""


def write_dequantized(request: Request, folder: Path) -> Said:
    """Write the source again, its experts at the values of their codes: same names, layout and types.

    It takes as much room as the original: this is for tools that evaluate, not for saving memory. Memory: one bank
    beside what `weights.Weights` needs.

    Raises:
        ExportError: no model at hand.
    """
    weights = open_weights(request)
    said = write_checkpoint(weights, folder, Weights.replaced)
    return Said((*said.notes, SEPARATE_NOTE), SEPARATE_LINES) if weights.apart else said
