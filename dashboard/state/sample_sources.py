"""Which samples of this machine may be read through the browser: the one place that says so. No Streamlit."""

from __future__ import annotations

from pathlib import Path

from dashboard.state import folders
from mode_core.samples import SampleError, SampleList, read_samples

ROOTS = "MODE_SAMPLES"  # environment variable: folders below which samples may be read; unset: none
HOW = f"Start the dashboard with the environment variable {ROOTS}=/path/of/a/folder to offer the samples below it here."


def roots() -> tuple[Path, ...]:
    """The folders below which samples may be read; only whole paths count."""
    return folders.named_by(ROOTS)


def read(path: str) -> SampleList:
    """The samples at a path below one of `roots`; a relative path begins in the first. Bad ones are in `.errors`.

    Raises:
        SampleError: no folder is named, the path lies outside of all (links and pictures are followed and refused
            likewise, as if there were nothing), or nothing there can be read.
    """
    within = roots()
    if not within:
        raise SampleError(f"No folder of this machine may be read. {HOW}")
    try:
        return read_samples(within[0] / path.strip(), on_error="collect", within=within)
    except (OSError, ValueError, RuntimeError) as refused:
        if isinstance(refused, SampleError):
            raise
        raise SampleError(f"{path[:200]!r} cannot be read ({refused}). Correct the path.") from None
