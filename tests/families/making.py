"""Makes a family's model and saves it with its processor, as a folder that `load_model` reads."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from tests.families.configs import CONFIGS
from tests.families.processors import PROCESSORS

DOUBLES = {  # families whose code comes with the model -> their model's class in `modeling_doubles`
    "kimi_vl": "KimiVLForConditionalGeneration",
    "deepseek_vl2": "DeepseekVLV2ForCausalLM",
    "molmoe": "MolmoForCausalLM",
}
PLACE = TemporaryDirectory(prefix="families-")  # goes with the process


def double_config() -> type:
    """The doubles' configuration class; imported late, since importing transformers takes long."""
    from tests.families.modeling_doubles import DoubleConfig

    return DoubleConfig


def make_model(name: str) -> Any:
    """The model of a family with random weights: seed 0, normal with standard deviation 0.1, so that routing is not
    degenerate; router biases too. A table that chooses experts by token (DeepSeek-V4) gives each token two others."""
    from transformers import CONFIG_MAPPING

    from mode_core.models import ensure_torchvision

    ensure_torchvision()
    model_type, arguments = CONFIGS[name]
    config = double_config()(**arguments) if name in DOUBLES else CONFIG_MAPPING[model_type](**arguments)
    torch.manual_seed(0)
    model = class_of(name)(config).float()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.dim() >= 2 or key.endswith(("bias", "sinks")):
                parameter.normal_(0.0, 0.1)
        for key, table in model.named_buffers():
            if key.endswith("tid2eid"):
                table.copy_(torch.rand(len(table), 8).argsort(dim=1)[:, : table.shape[1]])
    return model.eval()


def class_name(name: str) -> str:
    """Name of the family's model class."""
    return DOUBLES[name] if name in DOUBLES else model_class(CONFIGS[name][0])


def model_class(model_type: str) -> str:
    """Name of the class that transformers loads a type of model with."""
    from mode_core.models import ensure_torchvision

    ensure_torchvision()
    from transformers.models.auto import modeling_auto as known

    mappings = (known.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES, known.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    return next(names[model_type] for names in mappings if model_type in names)


def class_of(name: str) -> type:
    """The family's model class."""
    import transformers

    from tests.families import modeling_doubles

    return getattr(modeling_doubles if name in DOUBLES else transformers, class_name(name))


def save_family(name: str, folder: Path) -> Path:
    """Write model and processor into `folder`; a double with its code, as models with code of their own come."""
    return shutil.copytree(_saved(name), folder, dirs_exist_ok=True)


@cache
def _saved(name: str) -> str:
    """Where a family lies as long as the tests run, made once for all that copy it."""
    if name in DOUBLES:
        double_config().register_for_auto_class()
        class_of(name).register_for_auto_class("AutoModelForCausalLM")
    folder = f"{PLACE.name}/{name}"
    make_model(name).save_pretrained(folder)
    PROCESSORS[name]().save_pretrained(folder)
    return folder
