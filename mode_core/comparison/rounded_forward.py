"""Experts that are rounded only while their own module runs: any allocation, in the memory of the model itself.

`RoundedExperts` switches fastest, but holds all experts at every width. Here only the grids' scales are held (1/64 byte
a weight and width): when a module that holds experts' matrices is called, those are written as their codes stand for
them, and once it has answered the original is written back, bit for bit. Beside the model one module's matrices are
held at a time; where weights lie on disk they have just been read then, and are dropped afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from mode_core.calibration.rounding import BankGrids, find_grids
from mode_core.calibration.settings import CalibrationSettings
from mode_core.errors import SettingsError
from mode_core.jobs import Cancel, ProgressHook, Reporter
from mode_core.quantization.model_lock import original
from mode_core.quantization.regrid import regrid
from mode_core.quantization.widths import GROUP_SIZE, UNTOUCHED, by_side, group_length

if TYPE_CHECKING:
    from mode_core.models import ExpertBank, LoadedModel

Held = tuple[str, int]  # projection, expert


class RoundedInPassing:
    """The grids of every expert at some widths, and forward passes in which experts are rounded to them (`rtn`).

    `folder` keeps the grids on disk, and finds them there again; else they are in memory.

    Memory: the scales, and while a module runs a copy of its experts' matrices that are rounded.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        widths: Sequence[int],
        group_size: int = GROUP_SIZE,
        symmetric: bool = True,
        folder: Path | None = None,
        progress: ProgressHook | None = None,
        cancel: Cancel | None = None,
    ) -> None:
        self.loaded, self.widths, self.group_size = loaded, tuple(sorted(widths)), group_size
        settings = CalibrationSettings(bits=self.widths, group_size=group_size, symmetric=symmetric)
        reporter = Reporter(progress, len(loaded.banks), cancel)
        self._grids: dict[str, BankGrids] = {}
        for name, bank in loaded.banks.items():
            self._grids[name] = find_grids(bank, settings, loaded.revision, folder)
            reporter.step("grids of the experts' weights")

    @contextmanager
    def applied(self, bits: Mapping[str, np.ndarray]) -> Iterator[None]:
        """Passes of the model with these bits within the block; between passes the weights are the original.

        `bits`: bank → int `[E]`, or `[E, 2]` (gate+up, down); 16 leaves an expert as it was. No other thread gets the
        model meanwhile.

        Raises:
            SettingsError: a width that was not prepared. QuantizationError: a model that is quantized already.
        """
        for name, own in bits.items():
            if strange := set(np.unique(own).tolist()) - {*self.widths, UNTOUCHED}:
                raise SettingsError(f"Bank {name} asks for widths {sorted(strange)}; prepared are {self.widths}.")
        with original(self.loaded, changing=True), ExitStack() as undo:
            for name, bank in self.loaded.banks.items():
                for module, held in holders(bank).items():
                    undo.enter_context(self._replaced(bank, module, held, bits[name]))
            yield

    @contextmanager
    def _replaced(self, bank: ExpertBank, module: nn.Module, held: list[Held], bits: np.ndarray) -> Iterator[None]:
        """The module's forward rounds before, and puts the original back behind."""
        widths = by_side(bits)
        wanted = {}
        for projection, expert in held:
            width = int(widths[expert, 1 if projection == "down" else 0])
            if width != UNTOUCHED:
                wanted[projection, expert] = width
        if not wanted:
            yield
            return
        # accelerate's hooks, on modules whose weights lie on disk, read them before they call `_old_forward`
        name = "_old_forward" if "_old_forward" in vars(module) else "forward"
        own, before = getattr(module, name), vars(module).get(name)

        def rounding(*args: Any, **kwargs: Any) -> Any:
            kept = self._write(bank, wanted)
            try:
                return own(*args, **kwargs)
            finally:
                for view, original in kept:
                    view.copy_(original)

        setattr(module, name, rounding)
        try:
            yield
        finally:
            delattr(module, name) if before is None else setattr(module, name, before)

    def _write(self, bank: ExpertBank, wanted: Mapping[Held, int]) -> list[tuple[Tensor, Tensor]]:
        """Round these matrices where they are; (view, what it held) of each."""
        kept = []
        with torch.no_grad():
            for (projection, expert), width in wanted.items():
                view = bank.matrix(projection, expert)
                kept.append((view, view.clone()))
                grid = self._grids[bank.name].grid("down" if projection == "down" else "up", width, expert)
                rows = bank.rows(projection)
                scales, zeros = (None if part is None else part[rows].to(view.device) for part in grid)
                view.copy_(regrid(view, scales, zeros, width, group_length(view.shape[1], self.group_size)))
        return kept


def holders(bank: ExpertBank) -> dict[nn.Module, list[Held]]:
    """The modules whose forward uses the matrices of a bank, and which matrices each holds."""
    linear: Callable[[str, int], nn.Module] | None = getattr(bank.storage, "linear", None)
    found: dict[nn.Module, list[Held]] = {}
    for projection in bank.projections:
        for expert in range(bank.experts):
            found.setdefault(linear(projection, expert) if linear else bank.module, []).append((projection, expert))
    return found
