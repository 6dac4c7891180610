"""What can be written, for whom, and the one function that writes it whole."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mode_core.allocation.records import Allocation
from mode_core.export.auto_round import FAMILIES as AUTO_ROUND_PROVEN
from mode_core.export.auto_round import WIDTHS as AUTO_ROUND_WIDTHS
from mode_core.export.auto_round import write_auto_round
from mode_core.export.compressed_tensors import WIDTHS as COMPRESSED_WIDTHS
from mode_core.export.compressed_tensors import write_compressed_tensors
from mode_core.export.dequantized import write_dequantized
from mode_core.export.expert_bits import write_expert_bits
from mode_core.export.folder import MANIFEST, ExportError, check_destination, whole_folder
from mode_core.export.gguf import WIDTHS as GGUF_WIDTHS
from mode_core.export.gguf import write_gguf
from mode_core.export.gptqmodel import WIDTHS as GPTQ_WIDTHS
from mode_core.export.gptqmodel import write_gptqmodel, write_gptqmodel_config
from mode_core.export.manifest import build_manifest
from mode_core.export.mlx import WIDTHS as MLX_WIDTHS
from mode_core.export.mlx import write_mlx, write_mlx_config
from mode_core.export.recipes import WIDTHS as RECIPE_WIDTHS
from mode_core.export.recipes import write_layer_config, write_recipe
from mode_core.export.refit import Fitted, fit
from mode_core.export.request import Request, shape_of
from mode_core.export.shards import SHARD_BYTES
from mode_core.export.table import write_table
from mode_core.importance.records import CostTable
from mode_core.jobs import Cancel, ProgressHook, check
from mode_core.quantization.widths import DROPPED, GROUP_SIZE, UNTOUCHED, WIDTHS
from mode_core.statistics import BankShape, ExpertStatistics

if TYPE_CHECKING:
    from mode_core.models import LoadedModel
    from mode_core.run import Run

ALL_WIDTHS = (DROPPED, *WIDTHS, UNTOUCHED)
AUTO_ROUND_FAMILIES = AUTO_ROUND_PROVEN.values()
PACKAGES_AS_INSTALLED = {"mlx": "'mlx[cpu]'"}  # where the name to install is not the name to import


@dataclass(frozen=True)
class Target:
    """One form of output: what it is called, how fine its bits may be, who runs it, and how that was proven.

    `finest_unit` is a name of `mode_core.allocation.UNITS`; an allocation that is finer is solved again at it.
    `needs` is the optional package that writing takes ("" for none), `warning` what a person must know before use.
    """

    name: str
    title: str
    finest_unit: str
    widths: tuple[int, ...]
    engines: str
    proof: str
    write: Callable[[Request, Path], None]
    needs_model: bool = False
    needs: str = ""
    warning: str = ""


@dataclass(frozen=True)
class ExportResult:
    """A finished export: its folder, every file in it (the manifest last), the manifest's content, and what was
    written: `fitted.allocation` is at the target's unit, `fitted.price` what that added to the predicted loss."""

    folder: Path
    files: tuple[Path, ...]
    manifest: dict[str, object]
    fitted: Fitted


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target(
            "expert_bits",
            "Bits per expert, as the released MODE code reads them (JSON)",
            "expert",
            ALL_WIDTHS,
            "The paper's released quantizer, option --expert_bits_json.",
            "Read back, it equals the allocation.",
            write_expert_bits,
        ),
        Target(
            "table",
            "One row per expert with every statistic (CSV and Parquet)",
            "expert_projection",
            ALL_WIDTHS,
            "Spreadsheets, pandas, and anything else that reads CSV or Parquet.",
            "Read back with pandas, it equals the allocation and the statistics.",
            write_table,
        ),
        Target(
            "dequantized",
            "Plain bfloat16 checkpoint with the quantized values",
            "expert_projection",
            ALL_WIDTHS,
            "Whatever runs the original checkpoint: transformers, vLLM, lmms-eval, VLMEvalKit. It saves no memory; "
            "it is for measuring what the bits cost.",
            "Loaded with stock transformers, its logits equal those of the quantized model.",
            write_dequantized,
            needs_model=True,
        ),
        Target(
            "auto_round",
            "Packed checkpoint in AutoRound's format, a width for every expert",
            "expert_projection",
            AUTO_ROUND_WIDTHS,
            "transformers with the package auto-round (tried: 0.16.1, on CPU), by stock from_pretrained. "
            f"vLLM and SGLang want one width for all experts of a layer. Families: {', '.join(AUTO_ROUND_FAMILIES)}.",
            "Its tensors, unpacked by an independent reader, equal the quantized weights; stock from_pretrained with "
            "auto-round gives the same weights to the bit, and logits within 0.005.",
            write_auto_round,
            needs_model=True,
        ),
        Target(
            "gptqmodel",
            "Packed checkpoint in GPTQModel's format, a width for every expert",
            "expert_projection",
            GPTQ_WIDTHS,
            "GPTQModel (tried: 7.7.0, torch backend on CPU). vLLM and SGLang want one width for all experts of a "
            "layer. Family: Qwen3-VL-MoE.",
            "Its tensors, unpacked by an independent reader, equal the quantized weights; in an environment of its own "
            "(tests/parity) GPTQModel's dynamic_get names every module's width and its loader gives these weights.",
            write_gptqmodel,
            needs_model=True,
        ),
        Target(
            "gptqmodel_config",
            "GPTQModel's settings alone, to quantize with it at these bits (JSON)",
            "expert_projection",
            GPTQ_WIDTHS,
            "GPTQModel: QuantizeConfig.from_pretrained(folder), then its own quantize.",
            "Every expert's every matrix is matched by exactly one rule; GPTQModel's own class reads it "
            "(tests/parity).",
            write_gptqmodel_config,
        ),
        Target(
            "auto_round_recipe",
            "AutoRound's layer_config, to tune with it at these bits (JSON)",
            "expert_projection",
            RECIPE_WIDTHS,
            "AutoRound: AutoRound(model, layer_config=…) (tried: 0.16.1).",
            "Every expert's every matrix has exactly one entry; AutoRound's own class takes every entry.",
            write_layer_config,
        ),
        Target(
            "llm_compressor_recipe",
            "A recipe for llm-compressor's GPTQ at these bits (YAML)",
            "expert_projection",
            RECIPE_WIDTHS,
            "llm-compressor: oneshot(model, recipe='recipe.yaml'). It saves in compressed-tensors' format, so what is "
            "said there about engines holds.",
            "Every expert's every matrix is matched by exactly one pattern; compressed-tensors' own classes read every "
            "group, and llm-compressor's own Recipe the file (tests/parity).",
            write_recipe,
        ),
        Target(
            "compressed_tensors",
            "Packed checkpoint in compressed-tensors' format, one width for a layer",
            "layer",
            COMPRESSED_WIDTHS,
            "vLLM, where it has a kernel for the width. Not stock transformers: 5.23 loads files with several widths "
            "without an error and with wrong weights. Family: Qwen3-VL-MoE.",
            "compressed-tensors' own decompressor gives the quantized weights exactly; an expected failure records "
            "what transformers makes of a file with several widths.",
            write_compressed_tensors,
            needs_model=True,
            warning="Loaded by stock transformers, a file with several widths has wrong weights and no error.",
        ),
        Target(
            "compressed_tensors_expert",
            "The same with a width for every expert: for research only",
            "expert_projection",
            COMPRESSED_WIDTHS,
            "None that was found: compressed-tensors itself decompresses it; vLLM and SGLang want one width for all "
            "experts of a layer, and transformers 5.23 loads it with wrong weights.",
            "compressed-tensors' own decompressor gives the quantized weights exactly.",
            write_compressed_tensors,
            needs_model=True,
            warning="No engine runs this: vLLM refuses or misreads experts of several widths in one layer, and stock "
            "transformers loads wrong weights without an error.",
        ),
        Target(
            "gguf",
            "A llama-quantize command, one type for a layer's projection",
            "projection",
            GGUF_WIDTHS,
            "llama.cpp: run the script on the bfloat16 GGUF file of the model. Types hold more than their nominal "
            "bits (q2_k 2.6, q3_k 3.4, q4_k 4.5).",
            "Each pattern matches exactly one tensor of a GGUF file written with gguf-py, all expert tensors are "
            "matched. llama-quantize itself is not run here.",
            write_gguf,
        ),
        Target(
            "mlx_config",
            "MLX's bits for every path, to convert with mlx-vlm (JSON)",
            "projection",
            MLX_WIDTHS,
            "mlx-vlm and mlx-lm, as the quantization entry of config.json or by a predicate.",
            "Every bank's every projection has one path, which the converted checkpoint holds.",
            write_mlx_config,
        ),
        Target(
            "mlx",
            "Packed checkpoint in MLX's format, one width for a layer's projection",
            "projection",
            MLX_WIDTHS,
            "mlx-vlm on Apple machines (and on Linux with MLX's CPU build). Family: Qwen3-VL-MoE.",
            "Where MLX is installed, its own dequantize gives the quantized weights; in an environment of its own "
            "(tests/parity) mlx-vlm opens the checkpoint and its logits are compared.",
            write_mlx,
            needs_model=True,
        ),
    )
}


def export(
    target: str,
    allocation: Allocation,
    directory: str | Path,
    *,
    run: Run | None = None,
    statistics: ExpertStatistics | None = None,
    costs: CostTable | None = None,
    loaded: LoadedModel | None = None,
    checkpoint: str | Path | None = None,
    method: str = "rtn",
    group_size: int = GROUP_SIZE,
    symmetric: bool = True,
    quantizer: Mapping[str, object] | None = None,
    shard_bytes: int = SHARD_BYTES,
    progress: ProgressHook | None = None,
    cancel: Cancel | None = None,
) -> ExportResult:
    """Write `allocation` as `target` into `directory`, with a manifest, whole or not at all.

    An allocation that is finer than the target's unit is solved again at that unit with its own budget, from
    `costs` (or from the run, by the settings that the allocation carries); the manifest says what it cost.

    The folder appears under its name only when everything in it is on the disk. An earlier export of the same
    target is replaced; anything else that lies there is left alone.

    Args:
        run: gives statistics and the model's name where these are not given themselves.
        loaded: the model; targets with `needs_model` need it, or
        checkpoint: its folder, which is then read and quantized piece by piece, so it may exceed the memory.
        quantizer: further arguments of `quantize_experts`.
        shard_bytes: largest safetensors file.

    Raises:
        ExportError: no such target; bits that the target cannot hold; a model or package that is needed and not
            there; a folder that holds something else.
        Cancelled: a stop was asked for; nothing was written.
    """
    if target not in TARGETS:
        raise ExportError(f"There is no export target {target!r}; choose one of: {', '.join(TARGETS)}.")
    chosen, folder = TARGETS[target], Path(directory)
    _check_ready(chosen, loaded, checkpoint)
    if statistics is None and run is not None:
        statistics = run.statistics
    source = _source(run, statistics, loaded, checkpoint)
    rest = (statistics, costs, loaded, method, group_size, symmetric, source, progress, cancel)
    place = {"checkpoint": None if checkpoint is None else Path(checkpoint), "shard_bytes": shard_bytes}
    shapes = {} if statistics is not None or loaded is not None else _shapes_in(place["checkpoint"])
    asked = Request(allocation, *rest, **place, quantizer=dict(quantizer or {}), stored_shapes=shapes)
    asked.check_banks()
    fitted = fit(allocation, chosen, costs, statistics, asked.sizes(allocation.widths))
    request = replace(asked, allocation=fitted.allocation)
    _check_widths(chosen, fitted.allocation)
    check_destination(folder, target)
    with whole_folder(folder) as building:
        chosen.write(request, building)
        check(cancel)
        manifest = build_manifest(chosen, request, fitted, building)
        (building / MANIFEST).write_text(json.dumps(manifest, indent=1, default=str) + "\n", encoding="utf-8")
    return ExportResult(folder, tuple(folder / name for name in (*manifest["files"], MANIFEST)), manifest, fitted)


def _shapes_in(checkpoint: Path | None) -> dict[str, BankShape]:
    """Sizes of the banks of a checkpoint's folder, from its configuration; none without a folder."""
    if checkpoint is None:
        return {}
    from mode_core.export.checkpoint import model_banks

    return {name: shape_of(bank) for name, bank in model_banks(checkpoint).items()}


def missing_package(target: Target) -> str | None:
    """What to install before this target can be written, as a sentence; None where nothing is missing."""
    if not target.needs or importlib.util.find_spec(target.needs) is not None:
        return None
    return f"The target {target.name!r} is written with the package {target.needs}; install it: pip install " + (
        PACKAGES_AS_INSTALLED.get(target.needs, target.needs) + "."
    )


def _check_ready(target: Target, loaded: LoadedModel | None, checkpoint: str | Path | None) -> None:
    if missing := missing_package(target):
        raise ExportError(missing)
    if target.needs_model and loaded is None and checkpoint is None:
        raise ExportError(
            f"The target {target.name!r} writes the model's weights and needs it loaded (loaded=…), or the folder of "
            "its checkpoint (checkpoint=…)."
        )


def _check_widths(target: Target, allocation: Allocation) -> None:
    used = {int(width) for bits in allocation.bits.values() for width in np.unique(bits)}
    if strange := sorted(used - set(target.widths)):
        raise ExportError(
            f"The target {target.name!r} has no {', '.join(map(str, strange))}-bit experts (it has: "
            f"{', '.join(map(str, target.widths))}); solve again with widths among these."
        )


def _source(
    run: Run | None, statistics: ExpertStatistics | None, loaded: LoadedModel | None, checkpoint: str | Path | None
) -> dict[str, object]:
    """Which model this is about, as the run, the statistics or the loaded model name it."""
    found: dict[str, object] = {}
    if statistics is not None:
        found |= {key: statistics.settings[key] for key in ("model", "revision") if key in statistics.settings}
    if run is not None and run.model_source:
        found["source"] = run.model_source
    if loaded is not None:
        found |= {key: getattr(loaded, key) for key in ("source", "revision")}
    elif checkpoint is not None:
        found["source"] = str(checkpoint)
    return found
