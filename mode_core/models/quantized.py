"""Checkpoints that are quantized already: told by their configuration, and refused before anything is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mode_core.models.errors import ModelError
from mode_core.models.folders import model_name, read_json

READABLE = "fp8"  # with scales for blocks; see `block_fp8`
BESIDE = ("hf_quant_config.json", "quantize_config.json", "quant_config.json")  # of ModelOpt, AutoGPTQ, AutoAWQ
TITLES = {
    "gptq": "GPTQ", "awq": "AWQ", "bitsandbytes": "bitsandbytes", "compressed-tensors": "compressed-tensors",
    "modelopt": "NVIDIA ModelOpt", "mxfp4": "MXFP4", "fbgemm_fp8": "FBGEMM FP8", "fp8": "FP8", "hqq": "HQQ",
    "auto-round": "AutoRound", "torchao": "torchao", "aqlm": "AQLM", "quanto": "Quanto", "mlx": "MLX",
}  # fmt: skip
ENDING = re.compile(
    r"(?:[-_.](?:(?:nv|mx)?fp[48]|awq|gptq|(?:u?int|[wa])\d+(?:a\d+)?(?:g\d+)?|bnb|hqq|aqlm|exl[23]|mlx|quantized|quant"
    r"|auto-?round|eetq|torchao|[2-8]-?bits?|dynamic|block|static|marlin|sym|asym|mixed|modelopt|g\d+|unsloth))+$",
    re.IGNORECASE,
)


def quantization_of(config: Any) -> Mapping[str, Any] | None:
    """What a model's configuration says of its quantization, at the top or in a part; None where it says nothing.

    `config` is the dictionary of a config.json, or transformers' object.
    """
    record = config if isinstance(config, Mapping) else config.to_dict()
    parts = (record, *(part for part in record.values() if isinstance(part, Mapping)))
    for part in parts:
        for key in ("quantization_config", "compression_config", "quantization"):
            if isinstance(found := part.get(key), Mapping) and found:
                return found
            if hasattr(found, "to_dict"):
                return found.to_dict()
    return None


def refuse_quantized(config: Any, name: str, folder: Path | None = None) -> None:
    """Refuse a model that is quantized already; block-scaled FP8 alone is read.

    `config` as in `quantization_of`; `name` is what the model is called; in its `folder` other tools' notes of
    quantization and its card are looked at too.

    Raises:
        ModelError: one sentence with the kind of quantization and the original to take.
    """
    found = quantization_of(config)
    if found is None and folder is not None:
        notes = [folder / note for note in BESIDE if (folder / note).is_file()]
        found = _noted(notes[0]) if notes else None
    if found is None or _kind(found) == READABLE:
        return
    called = model_name(folder) if folder is not None and (folder / "config.json").is_file() else name
    original = _original(called, folder)
    raise ModelError(f"{name} is quantized already ({_words(found)}); take the original weights instead: {original}.")


def _noted(note: Path) -> Mapping[str, Any]:
    """What a tool's own file beside the weights says, in the words of a `quantization_config`."""
    record = read_json(note)
    record = record if isinstance(record, dict) else {}
    if note.name == "hf_quant_config.json":
        inner = record.get("quantization")
        return {"quant_method": "modelopt", **(inner if isinstance(inner, dict) else {})}
    method = "awq" if note.name == "quant_config.json" else "gptq"
    return {"quant_method": method, "bits": record.get("bits") or record.get("w_bit")}


def _kind(found: Mapping[str, Any]) -> str:
    named = found.get("quant_method") or found.get("quant_type") or ("modelopt" if "quant_algo" in found else "")
    if not named and (found.get("load_in_4bit") or found.get("load_in_8bit")):
        named = "bitsandbytes"
    return str(getattr(named, "value", named)).lower()


def _words(found: Mapping[str, Any]) -> str:
    kind = _kind(found)
    algorithm = found.get("quant_algo") or found.get("format")
    bits = found.get("bits") or (4 if found.get("load_in_4bit") else 8 if found.get("load_in_8bit") else None)
    words = [TITLES.get(kind, kind or "a kind that is not named"), str(algorithm) if algorithm else ""]
    return ", ".join(word for word in (*words, f"{bits} bits" if bits else "") if word)


def _original(name: str, folder: Path | None) -> str:
    """The original of a quantized model: what its card names, else its name without the ending that tells the kind."""
    if folder is not None and (folder / "README.md").is_file():
        card = (folder / "README.md").read_text(encoding="utf-8", errors="replace")
        front = card.split("\n---", 1)[0] if card.startswith("---") else ""
        if named := re.search(r"^base_model:\s*(?:-\s*)?[\"']?([\w./-]+)", front, re.MULTILINE):
            return named[1]
    bare = ENDING.sub("", name)
    return bare if bare and bare != name else "the model that it was made from, in bfloat16 or float16"
