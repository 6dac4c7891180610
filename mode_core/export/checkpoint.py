"""What all checkpoint targets share: tensors in shards, the configuration, the companion files, and what to say."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mode_core.export.folder import ExportError
from mode_core.export.int32 import check_shapes
from mode_core.export.request import Request
from mode_core.export.shards import ShardWriter
from mode_core.export.weights import Weights, open_weights

if TYPE_CHECKING:
    from torch import Tensor

    from mode_core.quantization.packing import PackedMatrix

Tensors = Callable[[Weights], Iterator[tuple[str, "Tensor"]]]
NAMED = 3  # tensors named in a note


def write_checkpoint(
    weights: Weights,
    folder: Path,
    experts: Tensors,
    changes: Mapping[str, object] | None = None,
    others: Tensors | None = None,
) -> tuple[str, ...]:
    """Write a whole checkpoint: everything outside the experts as the source has it, and `experts(weights)`.

    `changes` are entries of config.json that the target needs, `others` what lies outside the experts, if not
    the source's own.
    """
    writer = ShardWriter(folder, weights.request.shard_bytes)
    with weights.ready():
        for tensors in (others(weights) if others else weights.others(), experts(weights)):
            for name, tensor in tensors:
                writer.add(name, tensor)
        writer.close()
    config = json.dumps(weights.config | dict(changes or {}), indent=2, ensure_ascii=False)
    (folder / "config.json").write_text(config + "\n", encoding="utf-8")
    for path in weights.companions:
        place = folder / path.relative_to(weights.folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    return _notes(weights)


def separate(parts: Callable[[PackedMatrix], dict[str, Tensor]]) -> Tensors:
    """Every expert's every matrix as a linear layer of its own, packed by `parts`; at width 16 as its plain weight."""

    def tensors(weights: Weights) -> Iterator[tuple[str, Tensor]]:
        for matrix in weights.experts():
            stored = {"weight": matrix.original} if matrix.packed is None else parts(matrix.packed)
            for part, tensor in stored.items():
                yield f"{matrix.module}.{part}", tensor

    return tensors


def packable_weights(request: Request, families: Mapping[str, str], by: str) -> Weights:
    """The weights of the request's model, to be packed for an engine that reads these families; see `check_family`.

    Raises:
        ExportError: another family; channels that do not fill whole words or groups; see `open_weights`.
    """
    weights = open_weights(request)
    check_family(weights.config, families, by)
    check_shapes(weights.shapes, request.group_size)
    return weights


def check_family(config: Mapping[str, object], families: Mapping[str, str], by: str) -> None:
    """Refuse a model whose loading by the engine was not proven; `families` are model types and what they are called.

    A wrapper's language model stands behind its own type: `internvl/qwen3_moe`.

    Raises:
        ExportError: names those that were.
    """
    text = config.get("text_config")
    inner = text.get("model_type") if isinstance(text, dict) else None
    if f"{config.get('model_type')}/{inner}" not in families and config.get("model_type") not in families:
        raise ExportError(
            f"Loading of {config.get('model_type')} with {inner} by {by} was not proven here (proven: "
            f"{', '.join(families.values())}); use the target 'dequantized' or 'expert_bits'."
        )


def other_linears(weights: Weights) -> list[str]:
    """Matrices outside the routed experts, by the names of their layers in the files."""
    names = [name for name in weights.files.names if name not in weights.routed and name.endswith(".weight")]
    return [name.removesuffix(".weight") for name in names if len(weights.files.shape(name)) == 2]


def _notes(weights: Weights) -> tuple[str, ...]:
    notes, form = [], weights.restored
    why = (
        "has a tensor for every expert, where transformers looks for fused ones and would start them at random"
        if weights.apart
        else "was saved by transformers 5, which leaves the fused experts of this family turned and settings out"
    )
    if form is not None:
        notes.append(
            f"The source {why}; what is written has the form of {form.example}: in × out where experts are fused, and "
            f"{', '.join(form.text)} in config.json."
        )
    elif weights.apart:
        notes.append(f"The source {why}; where experts keep their numbers they are written fused, as it reads them.")
    if unused := [name for name in weights.strange if name not in weights.routed]:
        more = f" and {len(unused) - NAMED} more" if len(unused) > NAMED else ""
        notes.append(
            f"{len(unused)} tensors that the model's class does not use are kept as they are: "
            f"{', '.join(unused[:NAMED])}{more}."
        )
    return tuple(notes)
