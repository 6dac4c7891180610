"""Every image-text family of the installed transformers that has experts is tested here, or refused by name."""

import json
import re
from pathlib import Path

import pytest
import transformers

from mode_core.models import ModelError, ensure_torchvision
from mode_core.models.outline import outline
from mode_core.models.refused import REFUSED
from tests.families.configs import CONFIGS

MODELS = Path(transformers.__file__).parent / "models"
EXPERTS = re.compile(r"^class \w*(?:Expert|MoE|Moe|Mixture)\w*\(", re.MULTILINE)


def parts_of(config) -> list:
    """A configuration and all those inside it, as they are where nothing else is asked for."""
    inside = [part for part in vars(config).values() if isinstance(part, transformers.PreTrainedConfig)]
    return [config, *(deep for part in inside for deep in parts_of(part))]


def has_experts(model_type: str) -> bool:
    """Whether transformers' own code for a type, or for a part that it has by default, defines experts."""
    ensure_torchvision()
    parts = parts_of(transformers.CONFIG_MAPPING[model_type]())
    files = [file for part in parts for file in (MODELS / type(part).__module__.split(".")[-2]).glob("modeling_*.py")]
    return any(EXPERTS.search(file.read_text(encoding="utf-8")) for file in {*files})


def test_a_family_with_experts_is_in_the_table_or_refused_by_name():
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as image_text

    tested = {kind for kind, _ in CONFIGS.values()}
    tested |= {arguments.get("text_config", {}).get("model_type") for _, arguments in CONFIGS.values()}
    found = {kind for kind in image_text if has_experts(kind)}
    assert {"qwen3_vl_moe", "kimi_k25", "nemotron_h_omni", "mistral4"} <= found and "qwen2_5_vl" not in found
    new = found - tested - REFUSED.keys()
    assert not new, (
        f"transformers {transformers.__version__} has families with experts that are new here: {sorted(new)}. Add a "
        "row in tests/families/registry.py, or refuse it with a reason in mode_core/models/refused.py."
    )
    assert REFUSED.keys() <= {*transformers.CONFIG_MAPPING} and not REFUSED.keys() & tested


@pytest.mark.parametrize("kind", REFUSED)
def test_a_refused_family_says_why(kind, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(
        ModelError, match=rf"is a {REFUSED[kind][0]} model \({kind}\), which is not read: {REFUSED[kind][1]}"
    ):
        outline(tmp_path)


def test_a_refused_language_model_is_refused_inside_another(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava", "text_config": {"model_type": "zaya"}}))
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ModelError, match=r"is a ZAYA1 model \(zaya\), which is not read: a token may skip its experts"):
        outline(tmp_path)
