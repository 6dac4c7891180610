"""A model without its weights: built from its configuration on torch's meta device, with every name, shape and type.

What needs a model's parts alone (its banks, what surrounds them, how many bytes) asks here, whatever the kind of
family: with pictures, text only, or with code of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn

from mode_core.models.errors import ModelError, OwnCodeError
from mode_core.models.folders import checked_folder, read_config
from mode_core.models.quantized import refuse_quantized
from mode_core.models.refused import refuse_family
from mode_core.models.vision_ops import ensure_torchvision

VISION_CONFIGS = ("vision_config", "vision_backbone", "visual")  # configurations of what looks at pictures
LANGUAGE_PARTS = ("text_config", "llm_config", "language_config")
FAILURES = (OSError, ValueError, LookupError, ImportError, RuntimeError, SafetensorError, StrictDataclassError)
FAILURES += (ArithmeticError, AssertionError, MemoryError)  # of numbers that cannot be
OF_CODE = (AttributeError, TypeError, NameError, SyntaxError)  # a file in a form that code does not expect, or old code


def outline(source: str | Path, trust_remote_code: bool = False) -> nn.Module:
    """The model of a folder (or of a hub id that is on this machine) without weights; `find_banks` finds its banks.

    Parameters are on the meta device, in the type that the weights are stored in (FP8 as what it stands for).

    Raises:
        ModelError: no such model here, quantized already, or no configuration that transformers builds.
        OwnCodeError: it comes with Python code of its own, and `trust_remote_code` is off.
    """
    return built(str(source), configuration(str(source), trust_remote_code), trust_remote_code)


def configuration(source: str, trust_remote_code: bool = False, name: str | None = None) -> Any:
    """The configuration of a model that is not quantized, as transformers' object; FP8 that is read is not named in it.

    `name` is what refusals call it, if not `source`.

    Raises:
        ModelError: as `outline`.
    """
    place, name = checked_folder(source), name or source
    if place is not None:
        refuse_quantized(read_config(place), name, place)
    ensure_torchvision()
    from transformers import AutoConfig

    common = {"local_files_only": True, "trust_remote_code": trust_remote_code}
    config = attempt(name, "configuration", AutoConfig.from_pretrained, source, **common)
    refuse_quantized(config, name)
    refuse_family(config, name)
    for part in (config, *(getattr(config, name, None) for name in LANGUAGE_PARTS)):
        if getattr(part, "quantization_config", None) is not None:
            del part.quantization_config
    return config


def built(name: str, config: Any, trust_remote_code: bool = False) -> nn.Module:
    """The model of a configuration on the meta device.

    Raises:
        ModelError: transformers, or the model's own code, cannot build it.
    """
    chosen, _ = attempt(name, "configuration", model_class_of, config)
    kept = {"dtype": stored_dtype(config), "trust_remote_code": trust_remote_code}
    with torch.device("meta"):
        return attempt(name, "model", chosen.from_config, config, **kept).eval()


def stored_dtype(config: Any) -> torch.dtype:
    """The type that a configuration names for the weights, at the top or for the language model; else bfloat16."""
    named = (getattr(part, "dtype", None) for part in (config, *(getattr(config, p, None) for p in LANGUAGE_PARTS)))
    found = next((dtype for dtype in named if dtype is not None), torch.bfloat16)
    return found if isinstance(found, torch.dtype) else getattr(torch, str(found).removeprefix("torch."))


def model_class_of(config: Any) -> tuple[Any, bool]:
    """The Auto class that loads a model, and whether the model reads pictures; from its configuration alone.

    Code that comes with a model is registered under the Auto class that its authors chose, often that for text.

    Raises:
        ValueError: no Auto class knows the model's type.
    """
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForMultimodalLM

    parts = [key for key in VISION_CONFIGS if getattr(config, key, None) is not None]
    own = getattr(config, "auto_map", None) or {}
    for known in (AutoModelForImageTextToText, AutoModelForMultimodalLM, AutoModelForCausalLM):
        if known.__name__ in own or type(config) in known._model_mapping:
            return known, known is not AutoModelForCausalLM or bool(parts)
    raise ValueError(f"{config.model_type!r} is no model that reads pictures or text and writes text")


def attempt(name: str, what: str, load: Any, *arguments: Any, **options: Any) -> Any:
    """`load(*arguments, **options)`, a part (`what`) of the model `name`; what goes wrong there, in words.

    Raises:
        ModelError: it cannot be loaded; an `OwnCodeError` where that needs the model's own code and leave to run it.
    """
    try:
        return load(*arguments, **options)
    except ModelError:
        raise
    except (*FAILURES, *OF_CODE) as failure:
        reason = str(failure).strip().splitlines()
        if options.get("trust_remote_code") is False and "custom code" in str(failure):
            raise OwnCodeError(
                f"{name} comes with Python code of its own, which is not run without leave. Read it; if you trust it, "
                "load with trust_remote_code=True (--trust-remote-code)."
            ) from failure
        raise ModelError(
            f"The {what} of {name} cannot be loaded ({type(failure).__name__}: {reason[0] if reason else 'no reason'})."
        ) from failure
