"""What an export is made from, handed to every target."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mode_core.allocation.records import Allocation
from mode_core.export.folder import ExportError
from mode_core.export.shards import SHARD_BYTES
from mode_core.importance.records import CostTable
from mode_core.jobs import Cancel, ProgressHook
from mode_core.quantization.settings import Quantizer
from mode_core.quantization.sizes import expert_bytes
from mode_core.statistics import BankShape, ExpertStatistics

if TYPE_CHECKING:
    from torch import nn

    from mode_core.models import ExpertBank, LoadedModel
    from mode_core.samples import Sample


def shape_of(bank: ExpertBank) -> BankShape:
    """A bank's sizes."""
    return BankShape(bank.layer, bank.experts, bank.hidden, bank.intermediate, bank.top_k, bank.has_gate)


@dataclass(frozen=True)
class Request:
    """An allocation and everything known about it; what a target needs and is not there, it asks for by name.

    Weights come from `loaded`, or piece by piece from the folder `checkpoint`. `quantizer` says how they are
    rounded, `samples` what it looks at, where it looks at any; `shard_bytes` bounds a shard of a checkpoint.
    `options` are what one target alone understands (`gguf`: types, rest, imatrix). `run_folder` is the run's.
    """

    allocation: Allocation
    statistics: ExpertStatistics | None = None
    costs: CostTable | None = None
    loaded: LoadedModel | None = None
    quantizer: Quantizer = Quantizer()
    samples: Sequence[Sample] | None = None
    source: dict[str, object] | None = None
    progress: ProgressHook | None = None
    cancel: Cancel | None = None
    checkpoint: Path | None = None
    shard_bytes: int = SHARD_BYTES
    run_folder: Path | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    network: nn.Module | None = None  # the model of `checkpoint` without its weights

    @property
    def method(self) -> str:
        """Name of the quantizer."""
        return self.quantizer.method

    @property
    def group_size(self) -> int:
        """Input channels that share a scale."""
        return self.quantizer.grid["group_size"]

    @property
    def symmetric(self) -> bool:
        """False where every group has a zero point."""
        return self.quantizer.grid["symmetric"]

    def layer(self, bank: str) -> int:
        """Decoder layer of a bank: from the statistics or the model, else from its name."""
        if (shape := self.shapes().get(bank)) is not None:
            return shape.layer
        if found := re.search(r"(?:layers|blocks|h)\.(\d+)\.", bank):
            return int(found.group(1))
        raise ExportError(f"The layer of bank {bank} is not known; export with the run or the model at hand.")

    def shapes(self) -> dict[str, BankShape]:
        """Shapes of the banks, by name; empty where neither statistics nor a model nor its folder are at hand."""
        if self.statistics is not None:
            return {bank.name: bank.shape for bank in self.statistics}
        return {name: shape_of(bank) for name, bank in self.banks.items()}

    @cached_property
    def banks(self) -> dict[str, ExpertBank]:
        """Expert banks of the model or of its folder; none without either."""
        if self.loaded is not None:
            return self.loaded.banks
        if self.network is None:
            return {}
        from mode_core.models import find_banks

        return find_banks(self.network)

    def packed_bytes(self) -> dict[str, np.ndarray] | None:
        """Packed bytes of every expert at its bits: bank → int64 `[E]`; None where shapes are not known."""
        shapes = self.shapes()
        return self.quantizer.packed(shapes, self.allocation.bits) if shapes else None

    def sizes(self, widths: tuple[int, ...]) -> dict[str, np.ndarray] | None:
        """Packed bytes of one expert at each width, gate+up and down: bank → int64 `[B, 2]`; None without shapes."""
        return {
            bank: expert_bytes(shape, widths, by_projection=True, **self.quantizer.grid)
            for bank, shape in self.shapes().items()
        } or None

    def check_banks(self) -> None:
        """Refuse statistics, costs or a model of other banks than the allocation's."""
        mine = set(self.allocation.bits)
        for what, names in (
            ("statistics", None if self.statistics is None else set(self.statistics.banks)),
            ("costs", None if self.costs is None else set(self.costs)),
            ("model", None if self.loaded is None else set(Request(self.allocation, loaded=self.loaded).shapes())),
        ):
            if names is not None and names != mine:
                raise ExportError(
                    f"The allocation and the {what} are of different models: banks only in the allocation "
                    f"{sorted(mine - names)[:3]}, only in the {what} {sorted(names - mine)[:3]}."
                )
