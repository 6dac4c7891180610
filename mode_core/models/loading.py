"""Load a Mixture-of-Experts model with its processor, through transformers' own Auto classes.

A model that reads no pictures (Mixtral, Qwen3-MoE, OLMoE, DeepSeek) loads too, with its tokenizer as processor.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from mode_core.models.banks import ExpertBank
from mode_core.models.encoding import Encoded, encode, tokenizer_of, vision_token_ids
from mode_core.models.errors import ModelError, OwnCodeError
from mode_core.models.finding import find_banks
from mode_core.models.offloading import execution_device, memory_bytes
from mode_core.models.vision_ops import ensure_torchvision
from mode_core.samples import Sample

VISION_PARTS = ("vision_config", "vision_backbone", "visual")  # configurations of what looks at pictures
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
FAILURES = (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError)
OF_OWN_CODE = (AttributeError, TypeError, NameError, SyntaxError)  # code that was written for older software
HASHED_WHOLE = 64 << 20  # bytes of a weight file up to which its revision covers every byte
HASHED_ENDS = 1 << 20  # bytes at each end of a larger one


@dataclass(eq=False)
class LoadedModel:
    """A model with all that the method needs of it.

    `banks` are its expert banks by full module name, in the order of the layers. `source` is the folder or hub id it
    came from, `name` how to call it, `revision` a digest of its configuration and weight files (or the hub's commit).
    `vision_ids` are the token ids of image and video positions; none for a model that reads text only, whose
    `processor` is its tokenizer.
    """

    model: nn.Module
    processor: Any
    banks: dict[str, ExpertBank]
    source: str
    name: str
    revision: str
    vision_ids: tuple[int, ...] = field(default=())

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
    def dtype(self) -> torch.dtype:
        """The type that the model computes in."""
        return self.model.dtype

    def encode(self, samples: Sequence[Sample], answers: bool = False, padding_side: str = "right") -> Encoded:
        """The model's inputs for a batch of samples, on its device; generation needs `padding_side="left"`.

        Raises:
            SampleError: a sample that the processor refuses, or without an answer where `answers` asks for one.
        """
        return encode(self.processor, self.vision_ids, samples, answers, padding_side, self.device, self.dtype)


def load_model(
    source: str | Path,
    device: str = "auto",
    dtype: str = "auto",
    trust_remote_code: bool = False,
    max_memory: int | str | None = None,
    offload_folder: str | Path | None = None,
) -> LoadedModel:
    """Load a model folder (offline), or a hub id such as `Qwen/Qwen3-VL-30B-A3B-Instruct`.

    With `max_memory`, weights beyond it stay on disk and are read layer by layer in every pass: a model larger than
    memory can be calibrated. Its first layers, as many as fit, stay in memory beside room for the largest one.
    Families whose checkpoint is stored otherwise than the model (most MoE families) are rewritten into
    `offload_folder` when they are loaded, which needs as much disk as the offloaded weights.

    Args:
        device: "auto" (a GPU where there is one), or a torch device such as "cpu" or "cuda:0".
        dtype: "auto" (as stored), "float32", "bfloat16" or "float16".
        trust_remote_code: run Python code that comes with the model. Only for models whose code you have read.
        max_memory: of weights in main memory, such as "12GB" or a number of bytes; None loads them all. Only with
            `device="auto"`; GPUs are filled first.
        offload_folder: where rewritten weights go; None makes a temporary folder that is removed when the program ends.

    Raises:
        ModelError: no such folder, no configuration, no processor, no weights, or no expert banks.
        OwnCodeError: it comes with Python code of its own, and `trust_remote_code` is off.
    """
    place = _checked_folder(str(source))
    ensure_torchvision()
    common = {"local_files_only": place is not None, "trust_remote_code": trust_remote_code}
    name = str(place or source)
    model_class, pictures = attempt(name, "configuration", model_class_of, name, **common)
    processor = load_processor(name, pictures, **common)
    common |= {"dtype": _dtype(dtype)} | _placement(device, max_memory, offload_folder)
    model = attempt(name, "model", model_class.from_pretrained, name, **common)
    model = (model.to(_device(device)) if max_memory is None else model).eval().requires_grad_(False)
    revision = _folder_revision(place) if place else str(getattr(model.config, "_commit_hash", None) or "unknown")
    return LoadedModel(
        model,
        processor,
        find_banks(model),
        source=str(source),
        name=place.resolve().name if place else str(source),
        revision=revision,
        vision_ids=vision_token_ids(model.config, processor) if pictures else (),
    )


def read_processor(folder: str | Path, trust_remote_code: bool = False) -> tuple[Any, tuple[int, ...]]:
    """A model folder's processor (a tokenizer where it reads text only) and vision token ids, without the weights.

    Raises:
        ModelError: as `load_model`.
    """
    name = str(_checked_folder(str(folder)) or folder)
    ensure_torchvision()
    from transformers import AutoConfig

    common = {"local_files_only": True, "trust_remote_code": trust_remote_code}
    _, pictures = attempt(name, "configuration", model_class_of, name, **common)
    processor = load_processor(name, pictures, **common)
    config = AutoConfig.from_pretrained(name, **common)
    return processor, vision_token_ids(config, processor) if pictures else ()


def model_class_of(name: str, **common: Any) -> tuple[Any, bool]:
    """The Auto class that loads a model, and whether the model reads pictures; from its configuration alone.

    Code that comes with a model is registered under the Auto class that its authors chose, often that for text.

    Raises:
        ValueError: no Auto class knows the model's type.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForMultimodalLM

    config = AutoConfig.from_pretrained(name, **common)
    parts = [key for key in VISION_PARTS if getattr(config, key, None) is not None]
    classes = (AutoModelForImageTextToText, AutoModelForMultimodalLM, AutoModelForCausalLM)
    own = getattr(config, "auto_map", None) or {}
    for known in classes:
        if known.__name__ in own or type(config) in known._model_mapping:
            return known, known is not AutoModelForCausalLM or bool(parts)
    raise ValueError(f"{config.model_type!r} is no model that reads pictures or text and writes text")


def load_processor(name: str, pictures: bool, **common: Any) -> Any:
    """The processor of a model, or the tokenizer of one that reads text only.

    Raises:
        ModelError: it cannot be loaded, or takes no pictures where the model does.
    """
    from transformers import AutoProcessor, AutoTokenizer

    if not pictures:
        return _padding(attempt(name, "tokenizer", AutoTokenizer.from_pretrained, name, **common))
    processor = attempt(name, "processor", AutoProcessor.from_pretrained, name, **common)
    if not (hasattr(processor, "tokenizer") and hasattr(processor, "image_processor")):
        raise ModelError(
            f"{name} has no processor for pictures (found {type(processor).__name__}); "
            "its folder needs preprocessor_config.json (or processor_config.json) beside the tokenizer."
        )
    _padding(processor.tokenizer)
    return processor


def _padding(tokenizer: Any) -> Any:
    """Batches need a token for padding, which counts nowhere; many text models name none."""
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def _checked_folder(source: str) -> Path | None:
    """The folder, or None for a hub id."""
    place = Path(source)
    if place.is_dir():
        if not (place / "config.json").is_file():
            held = ", ".join(sorted(entry.name for entry in place.iterdir())[:5]) or "nothing"
            raise ModelError(f"{source} is a folder without config.json (it holds: {held}); choose a model's folder.")
        return place
    if place.exists():
        raise ModelError(f"{source} is a file; a model is a folder with config.json, weights and processor files.")
    if HUB_ID.fullmatch(source) and not place.parent.exists():
        return None
    raise ModelError(f"There is no folder {source}. Give a model's folder, or a hub id such as 'owner/name'.")


def attempt(name: str, what: str, load: Any, *arguments: Any, **options: Any) -> Any:
    """`load(*arguments, **options)`, a part (`what`) of the model `name`; what goes wrong there, in words.

    Raises:
        ModelError: it cannot be loaded; an `OwnCodeError` where that needs the model's own code and leave to run it.
    """
    expected = (*FAILURES, *OF_OWN_CODE) if options.get("trust_remote_code") else FAILURES
    try:
        return load(*arguments, **options)
    except expected as failure:
        reason = str(failure).strip().splitlines()
        if options.get("trust_remote_code") is False and "custom code" in str(failure):
            raise OwnCodeError(
                f"{name} comes with Python code of its own, which is not run without leave. Read it; if you trust it, "
                "load with trust_remote_code=True (--trust-remote-code)."
            ) from failure
        raise ModelError(
            f"The {what} of {name} cannot be loaded ({type(failure).__name__}: {reason[0] if reason else 'no reason'})."
        ) from failure


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


def _dtype(name: str) -> Any:
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


def _folder_revision(folder: Path) -> str:
    """Digest of config.json, the weight index and the weight files (large ones: their header and both ends)."""
    seal = hashlib.sha256()
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    seal.update(json.dumps(config, sort_keys=True).encode())
    for path in sorted([*folder.glob("*.index.json"), *folder.glob("*.safetensors")]):
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
