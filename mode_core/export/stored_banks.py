"""How a checkpoint's files store the expert banks of a model.

There are two ways, told by the tensors' names and shapes alone:

| storage | names | shapes |
|---|---|---|
| fused | `<bank>.gate_up_proj` (or `up_proj`), `<bank>.down_proj` | `[E, 2I, H]`, `[E, H, I]`; or both transposed |
| by expert | `<bank>.<e>.gate_proj.weight`, `up_proj`, `down_proj`; or `w1`, `w3`, `w2` | `[I, H]` twice, `[H, I]` |
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mode_core.export.folder import ExportError
from mode_core.export.request import shape_of
from mode_core.models.checkpoint_files import CheckpointFiles
from mode_core.statistics import BankShape

if TYPE_CHECKING:
    from torch import Tensor

    from mode_core.models import ExpertBank

FUSED = re.compile(r"(?P<bank>.+\.experts)\.(?P<part>gate_up_proj|up_proj|down_proj)(?:\.weight)?")
SEPARATE = re.compile(r"(?P<bank>.+\.experts)\.(?P<expert>\d+)\.(?P<part>gate_proj|up_proj|down_proj|w1|w2|w3)\.weight")
PROJECTION = {"gate_proj": "gate", "w1": "gate", "up_proj": "up", "w3": "up", "down_proj": "down", "w2": "down"}


@dataclass(frozen=True)
class StoredBank:
    """Where one bank's matrices lie: `names[projection]` of the fused tensor, or of each expert's (`{}` = expert);
    `rows[projection]` are its rows in the fused matrix `[out, in]`."""

    name: str
    shape: BankShape
    names: dict[str, str]
    rows: dict[str, slice]
    fused: bool
    transposed: bool = False

    @property
    def projections(self) -> tuple[str, ...]:
        """gate, up, down; or up, down."""
        return ("gate", "up", "down") if self.shape.has_gate else ("up", "down")

    @property
    def stored_name(self) -> str:
        """What the files call the bank."""
        return self.names["down"].split(".experts.")[0] + ".experts"

    def tensors(self) -> Iterator[str]:
        """Names of all tensors that hold this bank."""
        for name in dict.fromkeys(self.names.values()):
            yield from [name] if self.fused else (name.format(e) for e in range(self.shape.experts))

    def read(self, files: CheckpointFiles, projection: str, first: int, last: int) -> Tensor:
        """Matrices `[last − first, out, in]` of some experts."""
        import torch

        name = self.names[projection]
        if not self.fused:
            return torch.stack([files.read(name.format(expert)) for expert in range(first, last)])
        stack = files.read(name, first, last)
        return (stack.mT if self.transposed else stack)[:, self.rows[projection]]


def stored_banks(files: CheckpointFiles, model: dict[str, ExpertBank]) -> dict[str, StoredBank]:
    """How every bank of the model is stored in these files, by the model's name of the bank.

    Raises:
        ExportError: a bank that is not there, or stored in a way that shapes alone do not tell.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for name in files.names:
        if match := SEPARATE.fullmatch(name) or FUSED.fullmatch(name):
            found.setdefault(match["bank"], {}).setdefault(match["part"], []).append(name)
    stored = _by_model_name(found, model)
    return {name: _stored(files, bank, *stored[name]) for name, bank in model.items()}


def _by_model_name(found: dict, model: dict[str, ExpertBank]) -> dict[str, tuple[str, dict]]:
    """Model's bank name → (name in the files, parts); where the names differ, by layer number."""
    if set(model) <= set(found):
        return {name: (name, found[name]) for name in model}
    numbers = {int(re.findall(r"\.(\d+)\.", name)[0]): name for name in found if re.search(r"\.\d+\.", name)}
    layers = [bank.layer for bank in model.values()]
    if len(set(layers)) < len(layers) or len(numbers) < len(found) or not set(layers) <= set(numbers):
        lacking = next((name for name in model if name not in found), "")
        raise ExportError(f"The checkpoint's files hold no expert bank {lacking}; they hold: {', '.join(found)[:200]}.")
    return {name: (numbers[bank.layer], found[numbers[bank.layer]]) for name, bank in model.items()}


def _stored(files: CheckpointFiles, bank: ExpertBank, prefix: str, parts: dict[str, list[str]]) -> StoredBank:
    shape = shape_of(bank)
    rows = {projection: bank.rows(projection) for projection in bank.projections}
    separate = {part: names for part, names in parts.items() if SEPARATE.fullmatch(names[0])}
    if separate:
        names = {PROJECTION[part]: f"{prefix}.{{}}.{part}.weight" for part in separate}
        if any(len(held) != shape.experts for held in separate.values()):
            raise ExportError(f"{prefix}: not all {shape.experts} experts are in the checkpoint's files.")
        return StoredBank(bank.name, shape, names, rows, fused=False)
    entrance, exit_ = parts["gate_up_proj" if shape.has_gate else "up_proj"][0], parts["down_proj"][0]
    names = {"up": entrance, "down": exit_} | ({"gate": entrance} if shape.has_gate else {})
    return StoredBank(bank.name, shape, names, rows, True, _transposed(files, shape, entrance, exit_))


def _transposed(files: CheckpointFiles, shape: BankShape, entrance: str, exit_: str) -> bool:
    """Whether matrices are stored `[in, out]`, from the shapes."""
    wide = shape.intermediate * (2 if shape.has_gate else 1)
    plain = (shape.experts, wide, shape.hidden), (shape.experts, shape.hidden, shape.intermediate)
    turned = tuple((experts, columns, rows) for experts, rows, columns in plain)
    held = files.shape(entrance), files.shape(exit_)
    if plain == turned or held not in (plain, turned):
        raise ExportError(
            f"{entrance} and {exit_} have the shapes {held}; expected {plain}, or both transposed, and told apart."
        )
    return held == turned
