"""A model's experts as packed codes, and the switch between them and the original weights."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from mode_core.errors import QuantizationError
from mode_core.quantization.model_lock import original
from mode_core.quantization.packed_file import write_packed
from mode_core.quantization.packing import PackedMatrix
from mode_core.quantization.placement import Key, Packed, Placement, Values
from mode_core.quantization.rest import rest_bytes
from mode_core.quantization.settings import Quantizer

if TYPE_CHECKING:
    from mode_core.models import LoadedModel
    from mode_core.samples import SampleList


class QuantizedModel:
    """`packed[bank, expert, projection]` is a stored matrix, `linears[module]` one of attention or a shared expert.

    `with quantized:` puts the quantized weights in (again), leaving it puts the original back, bit for bit. Its owner
    is the thread that put the weights in. `data_free[bank]` names the experts that had too few tokens for a quantizer
    that looks at data, and were quantized by `methods.DATA_FREE` instead; `data_free_linears` the same for layers
    outside the experts. `tokens[bank, expert]` is how many tokens an expert's Hessians were summed from. `samples` are
    those that it looked at, and their `.errors` those that were left out.
    """

    def __init__(self, loaded: LoadedModel, quantizer: Quantizer, storage: str = "values", originals: str = "memory"):
        self.loaded, self.quantizer = loaded, quantizer
        self.packed: dict[Key, PackedMatrix] = {}
        self.linears: dict[str, PackedMatrix] = {}
        self.data_free: dict[str, tuple[int, ...]] = {}
        self.samples: SampleList | None = None
        self.data_free_linears: tuple[str, ...] = ()
        self.tokens: dict[tuple[str, int], int] = {}
        self._placement: Placement = (
            Values(loaded, self.packed, self.linears)
            if storage == "values"
            else Packed(loaded, self.packed, self.linears, originals)
        )
        self._rest_bytes = rest_bytes(loaded)
        self._types = {name: bank.dtype for name, bank in loaded.banks.items()}
        self._owner: int | None = None
        self._hold = ExitStack()  # of the model, while it is quantized

    @property
    def applied(self) -> bool:
        """True while the model computes with the quantized weights."""
        return self._owner is not None

    @property
    def packed_bytes(self) -> int:
        """Bytes that all routed experts take: codes, scales and zero points, and untouched experts as they are."""
        return self._experts_bytes(packed=True)

    @property
    def original_bytes(self) -> int:
        """Bytes that all routed experts took before."""
        return self._experts_bytes(packed=False)

    @property
    def model_bytes(self) -> int:
        """Bytes of the whole model: packed experts, packed attention and shared experts, all the rest as it is."""
        model = self.loaded.model
        saved = sum(m.shape[0] * m.shape[1] * _element(model, name) - m.nbytes for name, m in self.linears.items())
        return self._rest_bytes - saved + self.packed_bytes

    @property
    def live_bytes(self) -> int | None:
        """Bytes in memory now of parameters and codes, summed over the tensors there are; None unless the model
        computes from packed codes."""
        return self._placement.live_bytes if isinstance(self._placement, Packed) and self.applied else None

    def _experts_bytes(self, packed: bool) -> int:
        total = 0
        for name, bank in self.loaded.banks.items():
            whole = bank.hidden * bank.intermediate * self._types[name].itemsize
            for expert in range(bank.experts):
                for projection in bank.projections:
                    stored = self.packed.get((name, expert, projection)) if packed else None
                    total += whole if stored is None else stored.nbytes
        return total

    def matrix(self, bank: str, projection: str, expert: int) -> Tensor:
        """One expert's matrix `[out, in]` as the quantized model has it, in the model's type."""
        stored = self.packed.get((bank, expert, projection))
        if stored is None:
            return self._placement.untouched(self.loaded.banks[bank], projection, expert).clone()
        return stored.dequantize(self._types[bank])

    def apply(self) -> None:
        """Put the quantized weights in, from the packed codes; waits while another thread has the model."""
        if self._owner == threading.get_ident():
            return
        self.take()
        try:
            self.put()
        except BaseException:
            self.restore()
            raise

    def restore(self) -> None:
        """Put the original weights back, bit for bit; does nothing where they are back already."""
        if self._owner is None:
            return
        if self._owner != threading.get_ident():
            raise QuantizationError("Only the thread that put the quantized weights in may take them out again.")
        self._placement.restore()
        self._owner = None
        self._hold.close()

    def save_packed(self, path: str | Path) -> None:
        """Write the packed codes as one safetensors file, atomically; `load_packed` puts them into a model again."""
        write_packed(path, self.packed, self.quantizer, self.linears)

    def __enter__(self) -> QuantizedModel:
        self.apply()
        return self

    def __exit__(self, *_: object) -> None:
        self.restore()

    def take(self) -> None:
        """Get hold of the model's weights; `restore` lets go.

        Raises:
            QuantizationError: the model is quantized already.
        """
        self._hold.enter_context(original(self.loaded, changing=True))
        self._owner = threading.get_ident()

    def put(self) -> None:
        """Put what was quantized into the model, which was taken before."""
        self._placement.put()


def _element(model, name: str) -> int:
    """Bytes of one weight of a linear layer."""
    return model.get_submodule(name).weight.element_size()
