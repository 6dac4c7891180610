"""Recipes for ExLlamaV3, which quantizes and runs EXL3 on NVIDIA GPUs: its converter takes them, nothing was quantized.

`recipe.yaml` is what its `convert.py --recipe` takes (as of September 2026): `tensors` maps every linear layer of the
decoder that it budgets to 1 to 8 bits, or 16 for one that stays; a layer too few or too many ends it. The router is
none of them, and the head has `head_bits`. `override.yaml` puts the same bits together from whole models that exist
already, one a width (`util/recompile.py --override`): patterns on tensors' names, and the model that each comes from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mode_core.allocation.records import Allocation
from mode_core.errors import ExportError
from mode_core.export.checkpoint import check_family
from mode_core.export.expert_modules import expert_modules
from mode_core.export.int32 import most_common_width
from mode_core.export.request import Request
from mode_core.quantization.widths import UNTOUCHED, WIDTHS
from mode_core.yaml_files import yaml_of

if TYPE_CHECKING:
    from torch import nn

EXL3_WIDTHS = (*WIDTHS, UNTOUCHED)
SERVED_WIDTHS = (3, 4, 5, 6, 8, UNTOUCHED)  # of the plug-in vllm-exl3, where the experts of a layer differ
RECIPE, OVERRIDE = "recipe.yaml", "override.yaml"
FAMILIES = {"qwen3_vl_moe": "Qwen3-VL-MoE", "qwen3_moe": "Qwen3-MoE"}  # whose names of layers were read there
_HOW = """\
# As read in ExLlamaV3's sources, not run:  python convert.py -i MODEL -o MODEL-exl3 -w WORK -rcp recipe.yaml
"""
_PUT_TOGETHER = """\
# The same bits of the experts from whole models, one a width, whose folders stand at model_dir. As read, not run:
#   python convert.py -i MODEL -o MODEL-exl3-4bit -w WORK -b 4     (for each of them)
#   python util/recompile.py -i MODEL-exl3-{most}bit -o MODEL-exl3 -or override.yaml
"""


def write_exllamav3(request: Request, folder: Path) -> tuple[str, ...]:
    """Write both files; the second only where no expert is left as it was.

    Raises:
        ExportError: a family whose names were not read, or a model's folder that is not at hand.
    """
    network, shapes = _network(request), request.shapes()
    config = network.config.to_dict()
    check_family(config, FAMILIES, "ExLlamaV3")
    if len(shapes) != (config.get("text_config") or config)["num_hidden_layers"]:
        raise ExportError("ExLlamaV3 takes experts in every layer of this family, and this model has dense ones.")
    bits = {module.name: module.bits for module in expert_modules(request.allocation.bits, shapes)}
    tensors = dict(_around(network, request)) | bits
    record = {"target_bpw": round(request.allocation.average_bits, 4), "head_bits": UNTOUCHED, "tensors": tensors}
    (folder / RECIPE).write_text(_HOW + yaml_of(record), encoding="utf-8")
    if UNTOUCHED in bits.values():
        return (f"{OVERRIDE} is left out: experts at 16 bits have no converted model to be taken from.",)
    (folder / OVERRIDE).write_text(_override(request.allocation, bits), encoding="utf-8")
    return ()


def _network(request: Request) -> nn.Module:
    """The model with or without weights, for the names of its layers."""
    from mode_core.models.outline import outline

    if request.network is not None or request.loaded is not None:
        return request.loaded.model if request.network is None else request.network
    source = (request.source or {}).get("source")
    if not source or not Path(str(source)).is_dir():
        raise ExportError(
            f"This recipe lists every linear layer of the decoder, so it needs the model's folder, and "
            f"{source or 'none'} is none here; give it with --model FOLDER --stream."
        )
    return outline(Path(str(source)))


def _around(network: nn.Module, request: Request) -> Iterator[tuple[str, int]]:
    """Attention and shared experts, at the widths that were asked for or as they were."""
    from mode_core.quantization.rest import rest_linears

    widths = {"attention": request.quantizer.attention_bits, "shared": request.quantizer.shared_bits}
    for name, _, part in rest_linears(network):
        yield name, widths[part] or UNTOUCHED


def _override(allocation: Allocation, bits: Mapping[str, int]) -> str:
    """One source a width; one pattern a matrix, or one for all experts of a layer's projection where they agree."""
    patterns: dict[str, int] = {}
    for bank in allocation.bits:
        for projection in ("gate", "up", "down"):
            own = {n: b for n, b in bits.items() if n.startswith(f"{bank}.") and n.endswith(f".{projection}_proj")}
            if len(set(own.values())) == 1:
                own = {f"{bank}.*.{projection}_proj": next(iter(own.values()))}
            patterns |= {f"{name}.*": width for name, width in own.items()}
    used = sorted(set(patterns.values()))
    sources = [{"id": f"{width} bits", "model_dir": f"MODEL-exl3-{width}bit"} for width in used]
    overrides = "".join(f'- key: "{name}"\n  source: {width} bits\n' for name, width in patterns.items())
    head = _PUT_TOGETHER.format(most=most_common_width(allocation.bits))
    return f"{head}{yaml_of({'sources': sources})}overrides:\n{overrides}"
