"""A model's folder as a person has it: what it is where it is no model yet, what to call it, what its config says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mode_core.files import LFS_POINTER
from mode_core.models.errors import ModelError

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
SNAPSHOT = re.compile(r"models--(?P<name>[^/\\]+)[/\\]snapshots[/\\][^/\\]+$")
POINTER_BYTES = 1024
MOST = {"layers": 1000, "depth": 1000, "experts": 10_000}  # by a part of the name in config.json


def checked_folder(source: str) -> Path | None:
    """The folder of a model, or None for a hub id.

    Raises:
        ModelError: it is neither, and what it is.
    """
    place = Path(source)
    if place.is_dir():
        if not (place / "config.json").is_file():
            raise ModelError(_no_config(place))
        return place
    if place.exists():
        raise ModelError(f"{source} is a file; a model is a folder with config.json, weights and processor files.")
    if HUB_ID.fullmatch(source) and not place.parent.exists():
        return None
    raise ModelError(f"There is no folder {source}. Give a model's folder, or a hub id such as 'owner/name'.")


def cached_folder(hub_id: str) -> Path | None:
    """A hub id's snapshot in the hub's cache on this machine, where configuration and all weights are in it; else None.
    Nothing is asked of the network."""
    from huggingface_hub import try_to_load_from_cache

    if not isinstance(found := try_to_load_from_cache(hub_id, "config.json"), str):
        return None
    folder = Path(found).parent
    index = folder / "model.safetensors.index.json"
    try:
        weights = set(read_json(index)["weight_map"].values()) if index.is_file() else {"model.safetensors"}
        return folder if all((folder / name).is_file() for name in weights) else None
    except (ModelError, TypeError, LookupError, AttributeError):  # an index that is none
        return None


def model_name(folder: Path) -> str:
    """What to call the model of a folder: its name, or `owner/name` for a snapshot in the hub's cache."""
    if found := SNAPSHOT.search(str(folder.absolute())):
        return found["name"].replace("--", "/", 1)
    return folder.resolve().name


def read_json(path: Path) -> Any:
    """What a JSON file says.

    Raises:
        ModelError: it cannot be read, or it is no JSON; the text names the place.
    """
    refuse_pointer(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as broken:
        raise ModelError(f"{path} cannot be read as JSON ({broken}); copy or download it anew.") from None


def read_config(folder: Path) -> dict[str, Any]:
    """A folder's config.json.

    Raises:
        ModelError: it cannot be read, or does not describe a model.
    """
    record = read_json(folder / "config.json")
    if not isinstance(record, dict) or not {"model_type", "architectures", "auto_map"} & set(record):
        raise ModelError(
            f"{folder / 'config.json'} describes no model (no 'model_type' in it); give the folder of a model as "
            "transformers loads it."
        )
    _check_sizes(record, folder / "config.json")
    return record


def _check_sizes(record: dict[str, Any], path: Path) -> None:
    """Refuse counts that no model has: making so many modules would take all time and memory, even without weights."""
    left: list[Any] = [record]
    while left:
        for key, value in left.pop().items():
            left += [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, dict)]
            most = next((most for word, most in MOST.items() if word in key), None)
            if most is not None and isinstance(value, int) and value > most:
                raise ModelError(f"{path} says {key} = {value:.4g}; no model has so many. Copy it anew.")


def named_dtype(config: dict[str, Any]) -> str | None:
    """The type that a config.json names for the weights, at the top or for the language model; None without one."""
    parts = (config, *(part for key in ("text_config", "llm_config") if isinstance(part := config.get(key), dict)))
    named = [str(part.get("dtype") or part.get("torch_dtype") or "") for part in parts]
    return next((name for name in named if name in ("float32", "float16", "bfloat16")), None)


def refuse_pointer(path: Path) -> None:
    """Refuse a file that git left in place of a large one.

    Raises:
        ModelError: it is one; what to do.
    """
    if path.is_file() and path.stat().st_size <= POINTER_BYTES and path.read_bytes().startswith(LFS_POINTER):
        raise ModelError(
            f"{path} is a Git-LFS pointer, not the file itself: the folder was cloned without git-lfs. Run "
            "'git lfs install' and 'git lfs pull' in it, or download it anew."
        )


def no_weights(folder: Path) -> str:
    """Why a folder without weights of its own form has none, and what to do, in one or two sentences."""
    names = sorted(path.name for path in folder.iterdir())
    if words := _other_form(folder, names):
        return words
    held = [name for name in names if name.endswith(".safetensors")]
    return (
        f"{folder} holds no safetensors weights of a model (model.safetensors, or shards with an index; it holds: "
        f"{', '.join(held or names)[:200] or 'nothing'}); choose a checkpoint's folder as transformers loads it."
    )


def _no_config(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir())
    if words := _other_form(folder, names):
        return words
    held = ", ".join(names[:5]) or "nothing"
    return f"{folder} is a folder without config.json (it holds: {held}); choose a model's folder."


def _other_form(folder: Path, names: list[str]) -> str:
    """What a folder is that holds something else than a checkpoint; empty where nothing tells."""
    if any(name.endswith(".bin") and name.startswith("pytorch_model") for name in names):
        return (
            f"{folder} holds its weights as pytorch_model.bin, a pickle: opening one can run code, so it is not read. "
            "Convert it where you trust it: load it with transformers' from_pretrained, save_pretrained it to a new "
            "folder (safetensors), and copy tokenizer and processor files beside."
        )
    if any(name.startswith("adapter_") for name in names):
        base = _base_of_adapter(folder)
        return (
            f"{folder} is an adapter alone (LoRA or alike{f', for {base}' if base else ''}), no whole model. Merge it "
            "into its base model first (peft: merge_and_unload, then save_pretrained) and give the merged folder."
        )
    if gguf := [name for name in names if name.endswith(".gguf")]:
        return (
            f"{folder} holds a GGUF alone ({gguf[0]}), which is quantized already and carries no processor; give the "
            "original checkpoint's folder (config.json, safetensors, tokenizer and processor files)."
        )
    if any(name.startswith("consolidated") for name in names):
        return (
            f"{folder} holds weights in another tool's form alone (consolidated…); give the checkpoint as transformers "
            "loads it (config.json and model.safetensors)."
        )
    return ""


def _base_of_adapter(folder: Path) -> str:
    path = folder / "adapter_config.json"
    record = read_json(path) if path.is_file() else {}
    return str(record.get("base_model_name_or_path") or "") if isinstance(record, dict) else ""
