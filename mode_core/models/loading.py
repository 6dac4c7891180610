"""Load a Mixture-of-Experts model with its processor, from a folder or the hub, and refuse what is not whole.

Weights are read by `CheckpointFiles` and put together by transformers, which is asked what it missed.
A model that reads no pictures (Mixtral, Qwen3-MoE, OLMoE, DeepSeek) loads too, with its tokenizer as processor.
"""

from __future__ import annotations

import atexit
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mode_core.models.bank_search import find_banks
from mode_core.models.banks import ExpertBank
from mode_core.models.checkpoint_files import BESIDE, CheckpointFiles
from mode_core.models.encoding import Encoded, audio_token_ids, check_template, encode, tokenizer_of, vision_token_ids
from mode_core.models.errors import ModelError
from mode_core.models.folders import cached_folder, checked_folder, model_name, read_json, refuse_pointer
from mode_core.models.offloading import check_on_disk, execution_device, memory_bytes
from mode_core.models.outline import attempt, configuration, model_class_of
from mode_core.models.weight_loading import load_weights
from mode_core.samples import Sample

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SMALL = ("*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken", "README.md")  # what the hub is asked for first
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
TOKENIZERS = (
    "tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json", "*.tiktoken", "*.model",
)  # fmt: skip


@dataclass(eq=False)
class LoadedModel:
    """A model with all that the method needs of it.

    `banks` are its expert banks by full module name, in the order of the layers. `source` is the folder or hub id it
    came from, `name` how to call it, `revision` a digest of its configuration and weight files (or the hub's commit).
    `vision_ids` are the token ids of image and video positions; none for a model that reads text only, whose
    `processor` is its tokenizer. `audio_ids` are those of audio positions; none for a model that hears nothing.
    """

    model: nn.Module
    processor: Any
    banks: dict[str, ExpertBank]
    source: str
    name: str
    revision: str
    vision_ids: tuple[int, ...] = field(default=())
    audio_ids: tuple[int, ...] = field(default=())

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        return execution_device(self.model)

    @property
    def tokenizer(self) -> Any:
        """What turns text into tokens; the processor itself where the model reads text only."""
        return tokenizer_of(self.processor)

    @property
    def reads_pictures(self) -> bool:
        """False for a model that reads text only: it has no vision tokens."""
        return bool(self.vision_ids)

    @property
    def stops(self) -> list[int]:
        """Tokens that end a turn: of the model's generation settings, else of its tokenizer."""
        stops = getattr(getattr(self.model, "generation_config", None), "eos_token_id", None)
        stops = self.tokenizer.eos_token_id if stops is None else stops
        return [stops] if isinstance(stops, int) else list(stops or [])

    @property
    def dtype(self) -> torch.dtype:
        """The type that the model computes in."""
        return self.model.dtype

    def check_template(self) -> None:
        """Refuse a model whose folder does not say how a chat is written, before any work begins.

        Raises:
            ModelError: what to do.
        """
        check_template(self.processor)

    def encode(self, samples: Sequence[Sample], answers: bool = False, padding_side: str = "right") -> Encoded:
        """The model's inputs for a batch of samples, on its device; generation needs `padding_side="left"`.

        Raises:
            SampleError: a sample that the processor refuses, or without an answer where `answers` asks for one.
        """
        return encode(
            self.processor, self.vision_ids, samples, answers, padding_side, self.device, self.dtype, self.audio_ids
        )


def load_model(
    source: str | Path,
    device: str = "auto",
    dtype: str = "auto",
    trust_remote_code: bool = False,
    max_memory: int | str | None = None,
    offload_folder: str | Path | None = None,
    fetch: bool = True,
) -> LoadedModel:
    """Load a model folder (offline), or a hub id such as `Qwen/Qwen3-VL-30B-A3B-Instruct`.

    With `max_memory`, weights beyond it stay on disk and are read layer by layer in every pass: a model larger than
    memory can be calibrated. Its first layers, as many as fit, stay in memory beside room for the largest one. The
    others are rewritten into `offload_folder` when they are loaded, which needs as much disk.

    Block-scaled FP8 is loaded as what it stands for; any other quantized model is refused. Every tensor of the model
    must be in the files, in its shape, with finite numbers.

    Args:
        device: "auto" (a GPU where there is one), or a torch device such as "cpu" or "cuda:0".
        dtype: "auto" (as stored), "float32", "bfloat16" or "float16".
        trust_remote_code: run Python code that comes with the model. Only for models whose code you have read.
        max_memory: of weights in main memory, such as "12GB" or a number of bytes; None loads them all. Only with
            `device="auto"`; GPUs are filled first.
        offload_folder: where rewritten weights go; None makes a temporary folder that is removed when the program ends.
        fetch: may a hub id be downloaded? If not, it is read from the hub's cache on this machine, as it lies there.

    Raises:
        ModelError: no such folder, no configuration, no processor, no weights or not all of them, quantized already,
            or no expert banks.
        OwnCodeError: it comes with Python code of its own, and `trust_remote_code` is off.
    """
    kept = asked_dtype(dtype), None if max_memory is not None else _device(device)
    placement = _placement(device, max_memory, offload_folder)
    found = checked_folder(str(source))
    place = found or (_fetched(str(source), trust_remote_code) if fetch else _cached(str(source)))
    config = configuration(str(place), trust_remote_code, str(source))
    _, pictures = attempt(str(source), "configuration", model_class_of, config)
    with CheckpointFiles(place) as files:
        processor = load_processor(place, pictures, trust_remote_code)
        model = load_weights(files, config, kept[0], trust_remote_code, **placement)
        check_on_disk(model)
        revision = files.revision() if found else place.name
    model = (model if kept[1] is None else model.to(kept[1])).eval().requires_grad_(False)
    return LoadedModel(
        model,
        processor,
        find_banks(model),
        source=str(source),
        name=model_name(place) if found else str(source),
        revision=revision,
        vision_ids=vision_token_ids(model.config, processor) if pictures else (),
        audio_ids=audio_token_ids(model.config),
    )


def read_processor(folder: str | Path, trust_remote_code: bool = False) -> tuple[Any, tuple[int, ...], tuple[int, ...]]:
    """A model folder's processor (a tokenizer where it reads text only), vision and audio token ids, without weights.

    Raises:
        ModelError: as `load_model`.
    """
    config = configuration(str(folder), trust_remote_code)
    _, pictures = attempt(str(folder), "configuration", model_class_of, config)
    processor = load_processor(folder, pictures, trust_remote_code)
    return processor, vision_token_ids(config, processor) if pictures else (), audio_token_ids(config)


def _fetched(source: str, trust_remote_code: bool) -> Path:
    """The hub's model in its cache on this machine; what cannot be used is refused before its weights are fetched."""
    from huggingface_hub import snapshot_download

    small = [*SMALL, *(["*.py"] if trust_remote_code else [])]
    place = Path(attempt(source, "configuration", snapshot_download, source, allow_patterns=small))
    configuration(str(checked_folder(str(place))), trust_remote_code, source)
    return Path(attempt(source, "weights", snapshot_download, source, allow_patterns=[*small, "model*.safetensors"]))


def _cached(source: str) -> Path:
    if (folder := cached_folder(source)) is None:
        raise ModelError(f"{source} is not on this machine. Fetch it first: hf download {source}")
    return folder


def load_processor(source: str | Path, pictures: bool, trust_remote_code: bool = False) -> Any:
    """The processor of a model, or the tokenizer of one that reads text only.

    Raises:
        ModelError: its files are missing, it cannot be loaded, or takes no pictures where the model does.
    """
    from transformers import AutoProcessor, AutoTokenizer

    place, name = Path(source), str(source)
    if place.is_dir():
        _check_processor_files(place, pictures)
    common = {"local_files_only": True, "trust_remote_code": trust_remote_code}
    if not pictures:
        return _padding(attempt(name, "tokenizer", AutoTokenizer.from_pretrained, name, **common))
    processor = attempt(name, "processor", AutoProcessor.from_pretrained, name, **common)
    if not (hasattr(processor, "tokenizer") and hasattr(processor, "image_processor")):
        raise ModelError(
            f"{name} has no processor for pictures (found {type(processor).__name__}); "
            f"its folder needs {' or '.join(PROCESSORS)} beside the tokenizer, as the model was published."
        )
    _padding(processor.tokenizer)
    return processor


def _check_processor_files(place: Path, pictures: bool) -> None:
    """Tell of missing files by name, before transformers looks for something else instead."""
    for path in place.iterdir():
        if BESIDE.fullmatch(path.name):
            refuse_pointer(path)
            if path.suffix == ".json" and not isinstance(read_json(path), dict):
                raise ModelError(f"{path} is not in the form that it should have (a JSON object); copy it anew.")
    if not any(found for pattern in TOKENIZERS for found in place.glob(pattern)):
        raise ModelError(
            f"{place} has no tokenizer (looked for {', '.join(TOKENIZERS[:4])} and the like); copy tokenizer.json and "
            "tokenizer_config.json there from where the model was published."
        )
    if (place / "tokenizer.json").is_file() and not (place / "tokenizer_config.json").is_file():
        raise ModelError(
            f"{place} has no tokenizer_config.json, which names the control tokens; copy it there from where the model "
            "was published."
        )
    if pictures and not any((place / name).is_file() for name in PROCESSORS):
        raise ModelError(
            f"{place} has no processor for pictures: neither {' nor '.join(PROCESSORS)} is there; copy it from where "
            "the model was published."
        )


def _padding(tokenizer: Any) -> Any:
    """Batches need a token for padding, which counts nowhere; many text models name none."""
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def _placement(device: str, max_memory: int | str | None, folder: str | Path | None) -> dict[str, Any]:
    """What `from_pretrained` is told about memory: nothing, or a limit and the folder for what is beyond it."""
    if max_memory is None:
        return {}
    if device != "auto":
        raise ModelError(f"max_memory decides itself where weights lie; use device 'auto' with it, not {device!r}.")
    limits = {number: torch.cuda.mem_get_info(number)[0] * 9 // 10 for number in range(torch.cuda.device_count())}
    if folder is None:
        kept = tempfile.TemporaryDirectory(prefix="mode-offload-")
        atexit.register(kept.cleanup)
        folder = kept.name
    return {
        "device_map": "auto",
        "max_memory": limits | {"cpu": memory_bytes(max_memory)},
        "offload_folder": str(folder),
    }


def asked_dtype(name: str) -> Any:
    """The type that a name stands for; "auto" for as stored."""
    if name != "auto" and name not in DTYPES:
        raise ModelError(f"dtype must be auto, {', '.join(DTYPES)}; got {name!r}.")
    return DTYPES.get(name, "auto")


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as failure:
        raise ModelError(f"The device {name!r} cannot be used here: {str(failure).splitlines()[0]}") from None
    return device
