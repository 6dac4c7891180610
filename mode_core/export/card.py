"""README.md of an exported checkpoint: what it is, and the lines that load it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mode_core.export.request import Request

if TYPE_CHECKING:
    from torch import nn

    from mode_core.export.target import Target

CARD = "README.md"


def loading(target: Target, request: Request) -> dict[str, object] | None:
    """How an exported checkpoint is loaded: lines of Python to run in its folder, and the versions that they were tried
    with (none: they were not run here). None where nothing loads it."""
    if not target.load:
        return None
    network = request.network if request.loaded is None else request.loaded.model
    words = _classes(network) if "{" in target.load else {}
    return {"lines": target.load.format(**words).splitlines(), "tried": dict(target.tried)}


def write_card(target: Target, request: Request, notes: tuple[str, ...], folder: Path) -> None:
    """Write the README of a checkpoint that lies in `folder`."""
    source, how = request.source or {}, loading(target, request)
    origin = ", revision ".join(str(source[key]) for key in ("name", "revision") if key in source)
    text = [
        f"# {target.title}",
        f"Made from {origin or 'a model that is not named'}: routed experts at {request.allocation.average_bits:.2f} "
        f"bits on average ({request.method}, group size {request.group_size}). `manifest.json` says the rest.",
        *(_lines(how) if how is not None else ()),
        target.engines,
        *notes,
        *([f"**{target.warning}**"] if target.warning else []),
    ]
    (folder / CARD).write_text("\n\n".join(text) + "\n", encoding="utf-8")


def _lines(how: dict[str, object]) -> tuple[str, ...]:
    tried = ", ".join(f"{name} {version}" for name, version in how["tried"].items())
    return (
        "Load it in this folder, or with its path in place of `.`:",
        "```python\n" + "\n".join(how["lines"]) + "\n```",
        f"Tried with {tried}." if tried else "These lines were not run where this was written.",
    )


def _classes(network: nn.Module) -> dict[str, str]:
    """transformers' classes for the model and its inputs, and the leave that code of its own takes."""
    from mode_core.models.outline import model_class_of

    model, pictures = model_class_of(network.config)
    trust = ", trust_remote_code=True" if network.is_custom_code() else ""
    return {"model": model.__name__, "reader": "AutoProcessor" if pictures else "AutoTokenizer", "trust": trust}
