"""Our bits as instructions for stronger quantizers: AutoRound's `layer_config`, and a recipe for llm-compressor."""

from __future__ import annotations

import json
from pathlib import Path

from mode_core.export.compressed_tensors import check_groups, config_groups
from mode_core.export.expert_modules import expert_modules
from mode_core.export.folder import ExportError
from mode_core.export.request import Request
from mode_core.quantization.widths import UNTOUCHED

WIDTHS = (2, 3, 4, 5, 6, 8, UNTOUCHED)
LAYER_CONFIG, RECIPE = "layer_config.json", "recipe.yaml"
AUTO_ROUND_NOTE = """\
# AutoRound at these bits: routed experts as layer_config says, everything else left at 16 bits.
import json
from auto_round import AutoRound

layer_config = json.load(open("layer_config.json"))
tuner = AutoRound("<model folder or hub id>", bits=16, layer_config=layer_config)
tuner.quantize_and_save("<output folder>", format="auto_round")
"""
LLM_COMPRESSOR_NOTE = """\
# GPTQ by llm-compressor at these bits, for the routed experts alone.
#   from llmcompressor import oneshot
#   oneshot(model=model, dataset=..., recipe="recipe.yaml")
"""


def write_layer_config(request: Request, folder: Path) -> None:
    """`layer_config.json`, one entry for every matrix of every routed expert, and how to use it."""
    entries = {}
    for module in expert_modules(request.allocation.bits, request.shapes()):
        grid = {"group_size": request.group_size, "sym": request.symmetric, "data_type": "int"}
        entries[module.name] = {"bits": module.bits} | (grid if module.bits != UNTOUCHED else {})
    (folder / LAYER_CONFIG).write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    (folder / "quantize.py").write_text(AUTO_ROUND_NOTE, encoding="utf-8")


def write_recipe(request: Request, folder: Path) -> None:
    """`recipe.yaml` (JSON is YAML too): one config group per width, one pattern per bank and width.

    Raises:
        ExportError: the shapes of the banks are not known; gate, up and down would differ in group size.
    """
    if not (shapes := request.shapes()):
        raise ExportError("A recipe's group sizes depend on the experts' shapes; give the run or the model.")
    check_groups(shapes, request.group_size)
    groups = config_groups(request, shapes)
    recipe = {"quantization_stage": {"quantization_modifiers": {"GPTQModifier": {"config_groups": groups}}}}
    (folder / RECIPE).write_text(LLM_COMPRESSOR_NOTE + json.dumps(recipe, indent=1) + "\n", encoding="utf-8")
