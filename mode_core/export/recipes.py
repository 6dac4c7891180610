"""Our bits as instructions for a stronger quantizer: a recipe for llm-compressor."""

from __future__ import annotations

import json
from pathlib import Path

from mode_core.export.compressed_tensors import check_groups, config_groups
from mode_core.export.folder import ExportError
from mode_core.export.request import Request
from mode_core.quantization.widths import UNTOUCHED

WIDTHS = (2, 3, 4, 5, 6, 8, UNTOUCHED)
RECIPE = "recipe.yaml"
LLM_COMPRESSOR_NOTE = """\
# GPTQ by llm-compressor at these bits, for the routed experts alone.
#   from llmcompressor import oneshot
#   oneshot(model=model, dataset=..., recipe="recipe.yaml")
"""


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
