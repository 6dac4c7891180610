"""A checkpoint's folder read piece by piece, so that one larger than the memory can be quantized and exported.

The model itself is built without memory (on the meta device) to learn its banks' names and in which order a fused
matrix holds gate and up; `stored_banks` finds them in the files.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mode_core.export.folder import ExportError
from mode_core.export.request import Request
from mode_core.export.stored_banks import StoredBank, stored_banks
from mode_core.export.weights import ExpertMatrix, in_bfloat16, naming_bfloat16
from mode_core.jobs import Reporter
from mode_core.models.checkpoint_files import CheckpointFiles
from mode_core.models.folders import read_config
from mode_core.quantization.widths import UNTOUCHED

if TYPE_CHECKING:
    from torch import Tensor

    from mode_core.models import ExpertBank
    from mode_core.quantization.packing import PackedMatrix

DATA_FREE = ("rtn", "hqq")  # quantizers that look at the weights alone
CHUNK = 1 << 24  # weights of experts quantized at once


class CheckpointWeights:
    """Weights of a checkpoint's folder (see `weights.Weights`), quantized as they are read.

    Memory: `CHUNK` weights of experts as floating-point numbers and their codes, and the largest other tensor;
    `replaced` holds one bank in bfloat16 beside.
    """

    def __init__(self, request: Request, reporter: Reporter | None = None):
        if request.method not in DATA_FREE:
            raise ExportError(
                f"The quantizer {request.method!r} looks at data, so it needs the model loaded; "
                f"from a checkpoint's folder choose one of: {', '.join(DATA_FREE)}."
            )
        self.folder, self._request, self._reporter = Path(request.checkpoint), request, reporter
        banks = model_banks(self.folder)
        self.files = CheckpointFiles(self.folder)
        self.banks = stored_banks(self.files, banks)
        self.shapes = {name: bank.shape for name, bank in self.banks.items()}
        self.stored_names = {name: bank.stored_name for name, bank in self.banks.items()}
        if strange := sorted(set(self.banks) ^ set(request.allocation.bits)):
            raise ExportError(
                f"The allocation and the checkpoint {self.folder} are of different models: {strange[0]} is in one only."
            )

    def __enter__(self) -> CheckpointWeights:
        return self

    def __exit__(self, *_: object) -> None:
        self.files.close()

    def experts(self) -> Iterator[ExpertMatrix]:
        """See `weights.Weights`."""
        for bank in self.banks.values():
            bits = np.asarray(self._request.allocation.bits[bank.name])
            columns = bits if bits.ndim == 2 else np.stack([bits, bits], axis=1)
            step = max(1, CHUNK // (bank.shape.hidden * bank.shape.intermediate * len(bank.projections)))
            for first in range(0, bank.shape.experts, step):
                last = min(first + step, bank.shape.experts)
                packed = {
                    projection: self._pack(bank, projection, first, last, columns[:, int(projection == "down")])
                    for projection in bank.projections
                }
                self.files.close()  # pages of a mapped file that were read stay in memory while it is open
                for expert in range(first, last):
                    for projection in bank.projections:
                        matrix, original = packed[projection][expert - first]
                        yield ExpertMatrix(bank.name, expert, projection, matrix, original)
                    if self._reporter is not None:
                        self._reporter.step(f"layer {bank.shape.layer}: expert {expert}")

    def others(self) -> Iterator[tuple[str, Tensor]]:
        """See `weights.Weights`."""
        routed = {name for bank in self.banks.values() for name in bank.tensors()}
        for name in self.files.names:
            if name not in routed:
                yield name, in_bfloat16(self.files.read(name))
        self.files.close()

    def replaced(self) -> Iterator[tuple[str, Tensor]]:
        """The experts' tensors under the checkpoint's own names and shapes, with the values of their codes."""
        matrices = self.experts()
        for bank in self.banks.values():
            own = (next(matrices) for _ in range(bank.shape.experts * len(bank.projections)))
            if not bank.fused:
                for matrix in own:
                    yield bank.names[matrix.projection].format(matrix.expert), matrix.values()
                continue
            whole = self._empty(bank)
            for matrix in own:
                name = bank.names[matrix.projection]
                place = whole[name].mT if bank.transposed else whole[name]
                place[matrix.expert, bank.rows[matrix.projection]] = matrix.values()
            yield from whole.items()

    def config(self) -> dict[str, object]:
        """See `weights.Weights`."""
        return naming_bfloat16(original_config(self.folder))

    def companions(self, folder: Path) -> None:
        """See `weights.Weights`."""
        for path in self.files.companions:
            place = folder / path.relative_to(self.folder)
            place.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, place)

    def _empty(self, bank: StoredBank) -> dict[str, Tensor]:
        import torch

        return {name: torch.empty(self.files.shape(name), dtype=torch.bfloat16) for name in bank.tensors()}

    def _pack(
        self, bank: StoredBank, projection: str, first: int, last: int, bits: np.ndarray
    ) -> list[tuple[PackedMatrix | None, Tensor | None]]:
        """Experts `first … last` of one projection: packed, or as they were."""
        import torch

        from mode_core.quantization.methods import quantize_data_free
        from mode_core.quantization.packing import pack_matrices

        request, stack, widths = self._request, bank.read(self.files, projection, first, last), bits[first:last]
        found: list[tuple[PackedMatrix | None, Tensor | None]] = [(None, None)] * len(widths)
        for width in np.unique(widths):
            places = np.flatnonzero(widths == width)
            chosen = stack[torch.from_numpy(places)]
            if width == UNTOUCHED:
                for place, matrix in zip(places, chosen, strict=True):
                    found[place] = None, matrix.bfloat16()
                continue
            codes = quantize_data_free(chosen, int(width), request.group_size, request.symmetric, request.method)
            for place, matrix in zip(places, pack_matrices(codes), strict=True):
                found[place] = matrix, None
        return found


def original_config(folder: Path) -> dict[str, object]:
    """A checkpoint's config.json, without the settings of FP8: what is written is not FP8 any more."""
    return {key: value for key, value in read_config(folder).items() if key != "quantization_config"}


def model_banks(folder: Path) -> dict[str, ExpertBank]:
    """The banks of the model that a folder's config.json describes, built without memory.

    Raises:
        ModelError: it describes none, one without experts, or one that is quantized already.
    """
    from mode_core.models import find_banks
    from mode_core.models.outline import outline

    return find_banks(outline(folder))
