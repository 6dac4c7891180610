"""A checkpoint's folder read piece by piece, so that one larger than the memory can be quantized and exported.

Expert banks are stored in one of two ways, told by the tensors' names and shapes alone:

| storage | names | shapes |
|---|---|---|
| fused | `<bank>.gate_up_proj` (or `up_proj`), `<bank>.down_proj` | `[E, 2I, H]`, `[E, H, I]`; or both transposed |
| by expert | `<bank>.<e>.gate_proj.weight`, `up_proj`, `down_proj`; or `w1`, `w3`, `w2` | `[I, H]` twice, `[H, I]` |

The model itself is built without memory (on the meta device) to learn its banks' names and in which order a fused
matrix holds gate and up.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mode_core.export.folder import ExportError
from mode_core.export.request import Request
from mode_core.export.weights import ExpertMatrix, copy_companions, in_bfloat16, naming_bfloat16
from mode_core.jobs import Reporter
from mode_core.quantization.widths import UNTOUCHED
from mode_core.statistics import BankShape

if TYPE_CHECKING:
    from torch import Tensor

    from mode_core.models import ExpertBank
    from mode_core.quantization.packing import PackedMatrix

FUSED = re.compile(r"(?P<bank>.+\.experts)\.(?P<part>gate_up_proj|up_proj|down_proj)(?:\.weight)?")
SEPARATE = re.compile(r"(?P<bank>.+\.experts)\.(?P<expert>\d+)\.(?P<part>gate_proj|up_proj|down_proj|w1|w2|w3)\.weight")
PROJECTION = {"gate_proj": "gate", "w1": "gate", "up_proj": "up", "w3": "up", "down_proj": "down", "w2": "down"}
DATA_FREE = ("rtn", "hqq")  # quantizers that look at the weights alone
CHUNK = 1 << 24  # weights of experts quantized at once
INDEX = "model.safetensors.index.json"


class TensorFiles:
    """The tensors of a folder's safetensors files by name. Memory: what is asked for; files are mapped, not read."""

    def __init__(self, folder: Path):
        self.folder, self._opened = folder, (None, None)
        self.places = self._index()

    def shape(self, name: str) -> tuple[int, ...]:
        """Sizes of a tensor, without reading it."""
        return tuple(self._file(name).get_slice(name).get_shape())

    def read(self, name: str, first: int | None = None, last: int | None = None) -> Tensor:
        """A tensor, or `[first:last]` of it along its leading axis."""
        return self._file(name).get_tensor(name) if first is None else self._file(name).get_slice(name)[first:last]

    def close(self) -> None:
        """Let go of the file that is open."""
        self._opened = (None, None)

    def _index(self) -> dict[str, Path]:
        from safetensors import SafetensorError, safe_open

        index = self.folder / INDEX
        if index.is_file():
            places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            files = {name: self.folder / file for name, file in places.items()}
            if lost := sorted({path.name for path in files.values() if not path.is_file()}):
                raise ExportError(f"{self.folder} lacks the shard {lost[0]} that its index names; copy it whole.")
            return files
        files = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                with safe_open(str(path), framework="pt") as opened:
                    files |= dict.fromkeys(opened.keys(), path)
            except SafetensorError as broken:
                raise ExportError(f"{path} is not a readable safetensors file ({broken}).") from None
        if not files:
            raise ExportError(f"{self.folder} holds no safetensors weights; choose a checkpoint's folder.")
        return files

    def _file(self, name: str):
        from safetensors import safe_open

        path = self.places[name]
        if self._opened[0] != path:
            self._opened = path, safe_open(str(path), framework="pt")
        return self._opened[1]


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

    def read(self, files: TensorFiles, projection: str, first: int, last: int) -> Tensor:
        """Matrices `[last − first, out, in]` of some experts."""
        import torch

        name = self.names[projection]
        if not self.fused:
            return torch.stack([files.read(name.format(expert)) for expert in range(first, last)])
        stack = files.read(name, first, last)
        return (stack.mT if self.transposed else stack)[:, self.rows[projection]]


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
        self.files = TensorFiles(self.folder)
        self.banks = stored_banks(self.files, model_banks(self.folder))
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
        for name in self.files.places:
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
        copy_companions(self.folder, folder)

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
    """A checkpoint's config.json.

    Raises:
        ExportError: there is none, or the checkpoint is quantized already.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as broken:
        raise ExportError(f"{folder} has no readable config.json ({broken}).") from None
    if "quantization_config" in config:
        raise ExportError(f"{folder} is quantized already; give the original checkpoint.")
    return config


def model_banks(folder: Path) -> dict[str, ExpertBank]:
    """The banks of the model that a folder's config.json describes, built without memory."""
    import torch

    from mode_core.models import ensure_torchvision, find_banks

    original_config(folder)
    ensure_torchvision()
    from transformers import AutoConfig, AutoModelForImageTextToText

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        return find_banks(AutoModelForImageTextToText.from_config(config))


def shape_of(bank: ExpertBank) -> BankShape:
    """A bank's sizes."""
    return BankShape(bank.layer, bank.experts, bank.hidden, bank.intermediate, bank.top_k, bank.has_gate)


def stored_banks(files: TensorFiles, model: dict[str, ExpertBank]) -> dict[str, StoredBank]:
    """How every bank of the model is stored in these files, by the model's name of the bank.

    Raises:
        ExportError: a bank that is not there, or stored in a way that shapes alone do not tell.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for name in files.places:
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


def _stored(files: TensorFiles, bank: ExpertBank, prefix: str, parts: dict[str, list[str]]) -> StoredBank:
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


def _transposed(files: TensorFiles, shape: BankShape, entrance: str, exit_: str) -> bool:
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
