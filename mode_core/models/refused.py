"""Families of transformers whose banks could be found, but whose sums would say something untrue: refused by name."""

from __future__ import annotations

from typing import Any

from mode_core.models.errors import ModelError

REFUSED = {  # model type -> (title, why)
    "diffusion_gemma": (
        "DiffusionGemma",
        "it writes by denoising a block of random tokens again and again, so the tokens that its experts see are no "
        "tokens of the answer, and differ from step to step",
    ),
    "zaya": (
        "ZAYA1",
        "a token may skip its experts, and is then reported as chosen by the first expert with weight 0, which would "
        "count as a selection",
    ),
}


def refuse_family(config: Any, name: str) -> None:
    """Refuse a model of such a family, or with a language model of one; `config` is transformers' object.

    Raises:
        ModelError: the family and the reason.
    """
    for part in (config, config.get_text_config()):
        if (kind := getattr(part, "model_type", None)) in REFUSED:
            title, why = REFUSED[kind]
            raise ModelError(f"{name} is a {title} model ({kind}), which is not read: {why}. Choose another model.")
