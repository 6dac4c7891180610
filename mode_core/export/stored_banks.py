"""How a checkpoint's files store the expert banks of a model.

There are two ways, told by the tensors' names and shapes alone:

| storage | names | shapes |
|---|---|---|
| fused | `<bank>.gate_up_proj` (or `up_proj`), `<bank>.down_proj` | `[E, 2I, H]`, `[E, H, I]`; or both transposed |
| by expert | `<bank>.<e>.gate_proj.weight`, `up_proj`, `down_proj`; or `w1`, `w3`, `w2` | `[I, H]` twice, `[H, I]` |
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mode_core.export.folder import ExportError
from mode_core.export.request import shape_of
from mode_core.statistics import BankShape

if TYPE_CHECKING:
    from torch import Tensor

    from mode_core.models import ExpertBank
    from mode_core.models.checkpoint_files import CheckpointFiles

FUSED = re.compile(r"(?P<prefix>.+\.experts)\.(?P<part>gate_up_proj|up_proj|down_proj)(?:\.weight)?")
SEPARATE = re.compile(
    r"(?P<prefix>.+\.experts)\.(?P<expert>\d+)\.(?P<part>gate_proj|up_proj|down_proj|w1|w2|w3)\.weight"
)
ENTRANCES = {True: "gate_up_proj", False: "up_proj"}  # with a gate, and without
PROJECTION = {"gate_proj": "gate", "w1": "gate", "up_proj": "up", "w3": "up", "down_proj": "down", "w2": "down"}


class OtherStorage(ExportError):
    """A bank that the files store in a way that is not known here."""


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

    def tensors(self) -> Iterator[str]:
        """Names of all tensors that hold this bank."""
        for name in dict.fromkeys(self.names.values()):
            yield from [name] if self.fused else (name.format(e) for e in range(self.shape.experts))

    def sides(self) -> dict[str, tuple[int, int, int]]:
        """Sizes `[E, out, in]` of the fused tensors, by their names."""
        entrance, shape = self.names["up"], self.shape
        wide = shape.intermediate * (2 if shape.has_gate else 1)
        return {
            entrance: (shape.experts, wide, shape.hidden),
            self.names["down"]: (shape.experts, shape.hidden, shape.intermediate),
        }

    def joined(self, transposed: bool) -> StoredBank:
        """The same bank as it would lie in files with fused experts."""
        prefix = self.names["down"].partition(".{}.")[0]
        sides = {"down": "down_proj"} | dict.fromkeys(self.projections[:-1], ENTRANCES[self.shape.has_gate])
        names = {projection: f"{prefix}.{sides[projection]}" for projection in self.projections}
        return replace(self, names=names, fused=True, transposed=transposed)

    def read(self, files: CheckpointFiles, projection: str, first: int, last: int) -> Tensor:
        """Matrices `[last − first, out, in]` of some experts."""
        import torch

        name = self.names[projection]
        if not self.fused:
            return torch.stack([files.read(name.format(expert)) for expert in range(first, last)])
        stack = files.read(name, first, last)
        return (stack.mT if self.transposed else stack)[:, self.rows[projection]]


def bank_of(name: str, banks: Mapping[str, object]) -> str | None:
    """The bank whose module a tensor of the model belongs to."""
    while name:
        name = name.rpartition(".")[0]
        if name in banks:
            return name
    return None


def stored_banks(
    files: CheckpointFiles, banks: Mapping[str, ExpertBank], names: Mapping[str, str]
) -> dict[str, StoredBank]:
    """How every bank is stored in these files, by the model's name of it. `names` are those of `naming.model_names`.

    Raises:
        OtherStorage: a bank that is not there, or stored in a way that names and shapes do not tell.
    """
    parts: dict[str, dict[str, list[str]]] = {name: {} for name in banks}
    for stored, name in names.items():
        if (bank := bank_of(name, banks)) and (match := SEPARATE.fullmatch(stored) or FUSED.fullmatch(stored)):
            parts[bank].setdefault(match["part"], []).append(stored)
    return {name: _stored(files, bank, parts[name]) for name, bank in banks.items()}


def _stored(files: CheckpointFiles, bank: ExpertBank, parts: Mapping[str, list[str]]) -> StoredBank:
    shape, rows = shape_of(bank), {projection: bank.rows(projection) for projection in bank.projections}
    separate = {part: SEPARATE.fullmatch(stored[0]) for part, stored in parts.items()}
    if parts and all(separate.values()):
        names = {PROJECTION[part]: f"{found['prefix']}.{{}}.{part}.weight" for part, found in separate.items()}
        if set(names) != set(rows) or any(len(stored) != shape.experts for stored in parts.values()):
            raise OtherStorage(f"{bank.name}: not all of its {shape.experts} experts are in the checkpoint's files.")
        return StoredBank(bank.name, shape, names, rows, fused=False)
    entrance = ENTRANCES[shape.has_gate]
    if set(parts) != {entrance, "down_proj"} or any(len(stored) > 1 for stored in parts.values()):
        raise OtherStorage(f"The checkpoint's files hold no expert bank {bank.name} in a form that is known here.")
    names = {projection: parts["down_proj" if projection == "down" else entrance][0] for projection in rows}
    stored = StoredBank(bank.name, shape, names, rows, fused=True)
    return replace(stored, transposed=_transposed(files, stored.sides()))


def _transposed(files: CheckpointFiles, sides: Mapping[str, tuple[int, int, int]]) -> bool:
    """Whether matrices are stored `[in, out]`, from the shapes."""
    plain = tuple(sides.values())
    turned = tuple((experts, columns, rows) for experts, rows, columns in plain)
    held = tuple(tuple(files.shape(name)) for name in sides)
    if plain == turned or held not in (plain, turned):
        raise OtherStorage(
            f"{' and '.join(sides)} have the shapes {held}; expected {plain}, or both transposed, and told apart."
        )
    return held == turned
