"""All experts rounded at every width once, so that another allocation is a copy and no quantization."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mode_core.allocation.records import Allocation
from mode_core.errors import SettingsError
from mode_core.jobs import Cancel, ProgressHook
from mode_core.quantization.apply import quantize_experts
from mode_core.quantization.model_lock import original
from mode_core.quantization.settings import Quantizer
from mode_core.quantization.widths import UNTOUCHED, by_side
from mode_core.samples import Sample

if TYPE_CHECKING:
    from mode_core.models import LoadedModel


class RoundedExperts:
    """Every expert of a model at every width, by one quantizer, and the switch between them.

    An expert's rounded weights do not depend on the other experts' widths for quantizers that look at the weights
    alone (`rtn`, `hqq`); one that looks at data (`gptq`) sees here the inputs that the original model gives.

    Memory: (widths + 1) × the experts, in the model's type.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        widths: Sequence[int],
        quantizer: Quantizer | None = None,
        samples: Sequence[Sample] | None = None,
        progress: ProgressHook | None = None,
        cancel: Cancel | None = None,
    ) -> None:
        self.loaded = loaded
        self.widths = (*sorted(widths), UNTOUCHED)
        copies: list[dict[tuple[str, str], Tensor]] = []
        for width in self.widths[:-1]:
            bits = {name: np.full(bank.experts, width) for name, bank in loaded.banks.items()}
            everywhere = Allocation(bits, (width,), 0.0, 0.0, False, 0.0, float(width))
            rounding = quantizer or Quantizer()
            with quantize_experts(loaded, everywhere, rounding, samples=samples, progress=progress, cancel=cancel):
                copies.append(self._copy())
        copies.append(self._copy())
        self._weights = {key: torch.stack([copy[key] for copy in copies]) for key in copies[0]}

    @contextmanager
    def applied(self, bits: Mapping[str, np.ndarray]) -> Iterator[None]:
        """The model with these bits within the block, the original afterwards, bit for bit.

        `bits`: bank → int `[E]`, or `[E, 2]` (gate+up, down); 16 leaves an expert as it was. No other thread gets
        the model meanwhile.

        Raises:
            SettingsError: a width that was not prepared. QuantizationError: a model that is quantized already.
        """
        columns = {key: self._columns(key, bits[key[0]]) for key in self._weights}
        with original(self.loaded, changing=True):
            try:
                self._write(columns)
                yield
            finally:
                self._write({key: torch.full_like(column, len(self.widths) - 1) for key, column in columns.items()})

    def _columns(self, key: tuple[str, str], bits: np.ndarray) -> Tensor:
        """Width index of every expert of one bank's projection, `[E]`."""
        own = by_side(bits)[:, int(key[1] == "down")]
        column = np.searchsorted(self.widths, own)
        if (np.asarray(self.widths)[np.minimum(column, len(self.widths) - 1)] != own).any():
            raise SettingsError(
                f"Bank {key[0]} asks for widths {sorted(set(own.tolist()))}; prepared are {self.widths}."
            )
        return torch.from_numpy(column)

    def _write(self, columns: Mapping[tuple[str, str], Tensor]) -> None:
        with torch.no_grad():
            for (name, projection), column in columns.items():
                stack, weights = self.loaded.banks[name].stacked(projection), self._weights[name, projection]
                index = column.to(weights.device)
                stack.copy_(weights[index, torch.arange(len(index), device=weights.device)])

    def _copy(self) -> dict[tuple[str, str], Tensor]:
        return {
            (name, projection): bank.stacked(projection).clone()
            for name, bank in self.loaded.banks.items()
            for projection in bank.projections
        }
