"""The files of a model's folder: which hold its weights, which belong beside them, and what a tensor in them is.

Weights are the shards that `model.safetensors.index.json` names, else `model.safetensors`, else a whole set of
`model-0000n-of-0000N.safetensors`. Nothing else in the folder is the model's: no `consolidated.safetensors` of another
tool, no adapter, no optimizer state. Block-scaled FP8 is read as what it stands for (see `block_fp8`).
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from mode_core.models.block_fp8 import BYTE_FLOATS, block_of, check_grid, dequantized, sliced_scale
from mode_core.models.errors import ModelError
from mode_core.models.folders import named_dtype, no_weights, read_config, read_json, refuse_pointer

if TYPE_CHECKING:
    import torch
    from torch import Tensor

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
SHARD = re.compile(r"model.*-(\d+)-of-(\d+)\.safetensors")
SCALE, ACTIVATION = "_scale_inv", ".activation_scale"
BESIDE = re.compile(  # of a tokenizer, a processor, its templates, and the settings of generation
    r"(generation_config|.*processor_config|(tokenizer|vocab|merges|tekken|added_tokens|special_tokens_map|chat_template"
    r"|normalizer)[\w.-]*)\.(json|txt|model|jinja)|.*\.(jinja|tiktoken|model)"
)
TYPES = {  # the format's names -> torch's
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64", "BOOL": "bool",
}  # fmt: skip
FLOATS = ("F64", "F32", "F16", "BF16")
HASHED_WHOLE = 64 << 20  # bytes of a weight file up to which its revision covers every byte
HASHED_ENDS = 1 << 20  # bytes at each end of a larger one
GENERATE = "custom_generate/generate.py"  # found by transformers without being named in any configuration
TEMPLATES, CODE = "additional_chat_templates/*.jinja", ("*.py", "*/*.py")


@dataclass(frozen=True)
class _Stored:
    """Where a tensor lies, as what and in which sizes."""

    file: Path
    kind: str
    shape: tuple[int, ...]


class CheckpointFiles:
    """The tensors of a folder's weight files by name, and what belongs beside them; a context manager.

    `names` are those of tensors of the model in the order of the files (no scales of FP8 blocks); `weight_files` the
    files that hold them, `companions` the small ones of tokenizer, processor, templates, generation settings and the
    model's own code. Files are mapped, not read. Memory: what is asked for.

    Raises:
        ModelError: weights that are not there, not all there, or no readable safetensors; an index that names
            something outside of the folder; numbers of 8 bits without the scales that they need.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._opened: tuple[Path | None, Any] = (None, None)
        self._lock = Lock()
        config = read_config(self.folder) if (self.folder / "config.json").is_file() else {}
        self._block, self._dtype = block_of(config), named_dtype(config)
        places = _indexed(self.folder)
        self.weight_files = tuple(sorted(set(places.values()))) if places else _unindexed(self.folder)
        self._stored = self._headers(places)
        self._scales = {name + SCALE: name for name in self._stored if name + SCALE in self._stored}
        self.names = tuple(name for name in self._stored if name not in self._scales and not self._activation(name))
        self._check_bytes()

    def __enter__(self) -> CheckpointFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file that is open, and of the pages of it that were read."""
        self._opened = (None, None)

    @property
    def companions(self) -> tuple[Path, ...]:
        """The small files that belong beside the weights, `config.json` apart; some lie in folders of this one.

        Raises:
            ModelError: one of them is a Git-LFS pointer.
        """
        beside = [path for path in self.folder.iterdir() if BESIDE.fullmatch(path.name) and path.is_file()]
        beside += [*self.folder.glob(TEMPLATES), *self._own_code()]
        for path in beside:
            refuse_pointer(path)
        return tuple(sorted(beside))

    def revision(self) -> str:
        """Digest of what a model is read from: config.json, index and weight files (large ones: header and both ends),
        and the model's own code where it brings any. Tokenizer, processor and templates are no part of it."""
        seal = hashlib.sha256(json.dumps(read_config(self.folder), sort_keys=True).encode())
        for path in sorted([*self.weight_files, *self.folder.glob(INDEX), *self._own_code()]):
            size = path.stat().st_size
            seal.update(f"{path.name} {size}".encode())
            with path.open("rb") as opened:
                if size <= HASHED_WHOLE:
                    seal.update(opened.read())
                    continue
                seal.update(opened.read(HASHED_ENDS))
                opened.seek(-HASHED_ENDS, 2)
                seal.update(opened.read())
        return seal.hexdigest()[:16]

    def shape(self, name: str) -> tuple[int, ...]:
        """Sizes of a tensor, without reading it."""
        return self._stored[name].shape

    def dtype(self, name: str) -> torch.dtype:
        """The type that `read` gives, without reading it: that of the file, or the model's for FP8."""
        import torch

        kind = self._stored[name].kind
        return self._floats() if kind in BYTE_FLOATS else getattr(torch, TYPES[kind])

    def read(self, name: str, first: int | None = None, last: int | None = None) -> Tensor:
        """A tensor, or `[first:last]` of it along its leading axis; FP8 with its blocks' scales applied."""
        stored = self._stored[name]
        tensor = self._raw(name, first, last)
        if stored.kind not in BYTE_FLOATS:
            return tensor
        scale = self._raw(name + SCALE)
        if first is not None:
            scale = sliced_scale(scale, stored.shape, self._block, first, last)
        return dequantized(tensor, scale, self._block, self._floats())

    def _own_code(self) -> list[Path]:
        """Python files, where a configuration names code of the model's own or the folder brings a `generate`."""
        configs = [path.read_text("utf-8", "replace") for path in self.folder.glob("*config.json")]
        if not any("auto_map" in text for text in configs) and not (self.folder / GENERATE).is_file():
            return []
        return [path for pattern in CODE for path in self.folder.glob(pattern)]

    def _raw(self, name: str, first: int | None = None, last: int | None = None) -> Tensor:
        file = self._file(self._stored[name].file)
        return file.get_tensor(name) if first is None else file.get_slice(name)[first:last]

    def _file(self, path: Path) -> Any:
        """The opened file; one at a time is kept, since the pages that were read stay while it is open."""
        with self._lock:
            if self._opened[0] != path:
                self._opened = path, _open(path)
            return self._opened[1]

    def _floats(self) -> torch.dtype:
        """The type that FP8 stands for: the model's, else bfloat16."""
        import torch

        return getattr(torch, self._dtype or "bfloat16")

    def _headers(self, places: dict[str, Path]) -> dict[str, _Stored]:
        headers: dict[str, _Stored] = {}
        for path in self.weight_files:
            opened = _open(path)
            for name in opened.keys():  # noqa: SIM118 - no mapping
                if places and places.get(name) != path:
                    continue
                if name in headers:
                    raise ModelError(f"{self.folder}: {headers[name].file.name} and {path.name} both hold {name}; "
                                     f"keep the files of one checkpoint.")  # fmt: skip
                part = opened.get_slice(name)
                headers[name] = _Stored(path, part.get_dtype(), tuple(part.get_shape()))
        if lost := [name for name in places if name not in headers]:
            raise ModelError(
                f"{places[lost[0]]} lacks {lost[0]}, which {INDEX} looks for there ({len(lost)} such tensors); "
                "index and shards are of different checkpoints: copy them anew."
            )
        return headers

    def _activation(self, name: str) -> bool:
        """A scale for activations beside an FP8 matrix; weights alone are read."""
        return name.endswith(ACTIVATION) and name.removesuffix(ACTIVATION) + ".weight" + SCALE in self._scales

    def _check_bytes(self) -> None:
        for name in self.names:
            stored = self._stored[name]
            if stored.kind in BYTE_FLOATS and name + SCALE in self._stored:
                check_grid(name, stored.shape, self._stored[name + SCALE].shape, self._block)
            elif stored.kind not in FLOATS and (stored.kind not in TYPES or _is_weight(name)):
                raise ModelError(
                    f"{stored.file}: {name} is stored as {stored.kind} without scales that are understood "
                    f"('{name}{SCALE}' was looked for); take the original weights (bfloat16)."
                )


def _is_weight(name: str) -> bool:
    """Is it a matrix or vector that the model multiplies by, and no counter or table of positions?"""
    return name.endswith(".weight") or ".experts." in name


def _indexed(folder: Path) -> dict[str, Path]:
    """Tensor → file as the index says; nothing where there is no index."""
    index = folder / INDEX
    if not index.is_file():
        return {}
    refuse_pointer(index)
    record = read_json(index)
    places = record.get("weight_map") if isinstance(record, dict) else None
    if not isinstance(places, dict) or not places:
        raise ModelError(f"{index} names no tensors ('weight_map' was looked for); copy the index anew.")
    if strange := [f for f in places.values() if not isinstance(f, str) or re.search(r"[/\\:]", f)]:
        raise ModelError(f"{index} names {strange[0]!r}, which is no file beside it; only the folder's own are read.")
    if other := [file for file in places.values() if not file.endswith(".safetensors")]:
        raise ModelError(f"{index} names {other[0]}, which is no safetensors file; copy the index anew.")
    if (folder / SINGLE).is_file() and SINGLE not in places.values():
        raise ModelError(f"{folder} holds {SINGLE} beside an index of other files; remove the one that is not meant.")
    files = {name: folder / file for name, file in places.items()}
    if lost := sorted({path.name for path in files.values() if not path.is_file()}):
        raise ModelError(
            f"{folder} lacks the shard {lost[0]} that its index names ({len(lost)} of {len(set(places.values()))} are "
            "not there); copy or download it whole."
        )
    return files


def _unindexed(folder: Path) -> tuple[Path, ...]:
    """The one weight file, or a whole set of shards that tells by its names how many they are."""
    if (folder / SINGLE).is_file():
        return (folder / SINGLE,)
    shards = {
        path: found for path in sorted(folder.glob("model*.safetensors")) if (found := SHARD.fullmatch(path.name))
    }
    if not shards:
        raise ModelError(no_weights(folder))
    counts = {int(found[2]) for found in shards.values()}
    if len(counts) > 1 or {int(found[1]) for found in shards.values()} != set(range(1, max(counts) + 1)):
        raise ModelError(f"{folder} holds {len(shards)} of {max(counts)} shards and no {INDEX}; copy it whole.")
    return tuple(shards)


def _open(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    refuse_pointer(path)
    try:
        return safe_open(str(path), framework="pt")
    except (SafetensorError, OSError) as broken:
        raise ModelError(
            f"{path} is not a readable safetensors file ({broken}); its download or copy may have stopped: get it anew."
        ) from None
