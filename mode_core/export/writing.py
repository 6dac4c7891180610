"""The one function that writes an allocation as a target, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mode_core.allocation.records import Allocation
from mode_core.errors import ImportanceError, ModeError, PredictionError
from mode_core.export.card import HUB_ID, write_card
from mode_core.export.folder import MANIFEST, ExportError, check_destination, whole_folder
from mode_core.export.manifest import build_manifest
from mode_core.export.recipe import RECIPE, recipe_of
from mode_core.export.refit import MODEL, fit, told_beside_uniform
from mode_core.export.request import Request
from mode_core.export.shards import SHARD_BYTES
from mode_core.export.target import Fitted, Target, missing_package
from mode_core.export.targets import TARGETS
from mode_core.importance.records import CostTable
from mode_core.jobs import Cancel, ProgressHook, check
from mode_core.quantization.settings import Quantizer
from mode_core.quantization.widths import GROUP_SIZE
from mode_core.statistics import ExpertStatistics

if TYPE_CHECKING:
    from torch import nn

    from mode_core.models import LoadedModel
    from mode_core.runs.run import Run
    from mode_core.samples import Sample


@dataclass(frozen=True)
class ExportResult:
    """A finished export: its folder, every file in it (the manifest last), the manifest's content, and what was
    written: `fitted.allocation` is at the target's unit, `fitted.price` what that added to the predicted loss."""

    folder: Path
    files: tuple[Path, ...]
    manifest: dict[str, object]
    fitted: Fitted


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
    quantizer: Quantizer | Mapping[str, object] | None = None,
    samples: Sequence[Sample] | None = None,
    options: Mapping[str, str] | None = None,
    shard_bytes: int = SHARD_BYTES,
    trust_remote_code: bool = False,
    base_model: str | None = None,
    progress: ProgressHook | None = None,
    cancel: Cancel | None = None,
    before: Callable[[Fitted], None] | None = None,
) -> ExportResult:
    """Write `allocation` as `target` into `directory`, with a manifest, whole or not at all.

    An allocation that is finer than the target's unit is solved again at that unit with its own budget, from
    `costs` (or from the run, by the settings that the allocation carries); the manifest says what it cost. `before` is
    told of what will be written, when that is settled and nothing is written yet.

    The folder appears under its name only when everything in it is on the disk. An earlier export of the same
    target is replaced; anything else that lies there is left alone.

    Args:
        run: gives statistics and the model's name where these are not given themselves.
        loaded: the model; targets with `needs_model` need it, or
        checkpoint: its folder, which is then read and quantized piece by piece, so it may exceed the memory.
        quantizer: a `Quantizer` (which then says method and grid as well), or further arguments of `quantize_experts`.
        samples: what a quantizer that looks at data looks at.
        options: what the target alone understands, such as the types of `gguf`; and `budget_per`: see `fit`.
        shard_bytes: largest safetensors file.
        trust_remote_code: run Python code that comes with `checkpoint`, to learn its model's parts.
        base_model: hub id of the original, for the card; None takes it where the model came from the hub.

    Raises:
        ExportError: no such target; bits that the target cannot hold; a model or package that is needed and not
            there; a folder that holds something else; layout or names of the source that are not understood.
        ModelError: the source's folder is not whole, or is quantized already.
        Cancelled: a stop was asked for; nothing was written.
    """
    if target not in TARGETS:
        raise ExportError(f"There is no export target {target!r}; choose one of: {', '.join(TARGETS)}.")
    chosen, folder = TARGETS[target], Path(directory)
    if not isinstance(quantizer, Quantizer):
        given = {name: value for name, value in (quantizer or {}).items() if value is not None}
        samples = given.pop("samples", samples)
        quantizer = Quantizer(method, group_size, symmetric, **given)
    _check_ready(chosen, loaded, checkpoint)
    if statistics is None and run is not None:
        statistics = run.statistics
    source = _source(run, statistics, loaded, checkpoint) | _base_model(base_model)
    rest = (statistics, costs, loaded, quantizer, samples, source, progress, cancel)
    place = {"checkpoint": None if checkpoint is None else Path(checkpoint), "shard_bytes": shard_bytes}
    read = loaded is None and checkpoint is not None
    network = _network(chosen, Path(checkpoint), trust_remote_code) if read else None
    own = {"options": dict(options or {}), "run_folder": None if run is None else run.path}
    asked = Request(allocation, *rest, **place, **own, network=network)
    asked.check_banks()
    allocation.check_experts({name: shape.experts for name, shape in asked.shapes().items()})
    if chosen.fit is not None:
        fitted = chosen.fit(asked, chosen)
    else:
        shared = asked.options.get("budget_per", MODEL)
        fitted = fit(allocation, chosen, costs, statistics, asked.sizes(allocation.widths), shared)
    fitted = replace(fitted, notes=(*_worth(fitted, run), *fitted.notes))
    request = replace(asked, allocation=fitted.allocation)
    check_widths(chosen, fitted.allocation)
    check_destination(folder, target)
    if before is not None:
        before(fitted)
    with whole_folder(folder) as building:
        notes = chosen.write(request, building) or ()
        check(cancel)
        if chosen.group == "checkpoint":
            no_recipe = _write_recipe(chosen, asked, fitted, run, building)
            write_card(chosen, asked, fitted, run, notes, building, no_recipe)
        manifest = build_manifest(chosen, request, fitted, notes, building)
        (building / MANIFEST).write_text(json.dumps(manifest, indent=1, default=str) + "\n", encoding="utf-8")
    return ExportResult(folder, tuple(folder / name for name in (*manifest["files"], MANIFEST)), manifest, fitted)


def _write_recipe(target: Target, asked: Request, fitted: Fitted, run: Run | None, folder: Path) -> str:
    """Write recipe.yaml; where the export cannot be repeated, why ("" otherwise)."""
    try:
        recipe = recipe_of(target, asked, fitted, run)
    except ModeError as why:
        return str(why).rstrip(".")
    (folder / RECIPE).write_text(recipe.text(), encoding="utf-8")
    return ""


def _worth(fitted: Fitted, run: Run | None) -> tuple[str, ...]:
    """What a coarse unit is worth beside uniform bits, where the run can tell."""
    try:
        told = "" if run is None else told_beside_uniform(fitted, lambda bits: run.predictor().predict(bits))
    except (ImportanceError, PredictionError) as refused:
        told = f"What this is worth beside uniform bits cannot be predicted: {refused}"
    return (told,) if told else ()


def _check_ready(target: Target, loaded: LoadedModel | None, checkpoint: str | Path | None) -> None:
    if missing := missing_package(target):
        raise ExportError(missing)
    if target.needs_model and loaded is None and checkpoint is None:
        raise ExportError(
            f"The target {target.name!r} writes the model's weights and needs it loaded (loaded=…), or the folder of "
            "its checkpoint (checkpoint=…)."
        )


def check_widths(target: Target, allocation: Allocation) -> None:
    """Refuse bits that the target cannot hold.

    Raises:
        ExportError: names them, and those that it can.
    """
    used = {int(width) for bits in allocation.bits.values() for width in np.unique(bits)}
    if strange := sorted(used - set(target.widths)):
        raise ExportError(
            f"The target {target.name!r} has no {', '.join(map(str, strange))}-bit experts (it has: "
            f"{', '.join(map(str, target.widths))}); solve again with widths among these."
        )


def _network(target: Target, folder: Path, trust_remote_code: bool) -> nn.Module:
    """The model of a folder without weights; where these are written, after the proof that all of them are there."""
    from mode_core.models.checkpoint_files import CheckpointFiles
    from mode_core.models.outline import configuration, outline
    from mode_core.models.weight_loading import check_files

    if not target.needs_model:
        return outline(folder, trust_remote_code)
    config = configuration(str(folder), trust_remote_code)
    with CheckpointFiles(folder) as files:
        return check_files(files, config, trust_remote_code)


def _base_model(given: str | None) -> dict[str, str]:
    if given is not None and not HUB_ID.fullmatch(given):
        raise ExportError(f"base_model must be a hub id such as 'owner/name'; got {given!r}.")
    return {} if given is None else {"base_model": given}


def _source(
    run: Run | None, statistics: ExpertStatistics | None, loaded: LoadedModel | None, checkpoint: str | Path | None
) -> dict[str, object]:
    """Which model this is about, as the run, the statistics or the loaded model name it."""
    from mode_core.models.folders import model_name

    source: dict[str, object] = {}
    if statistics is not None:
        source |= {key: statistics.settings[key] for key in ("model", "revision") if key in statistics.settings}
    if run is not None and run.model_source:
        source["source"] = run.model_source
    if loaded is not None:
        source |= {key: getattr(loaded, key) for key in ("source", "name", "revision")}
    elif checkpoint is not None:
        source |= {"source": str(checkpoint), "name": model_name(Path(checkpoint))}
    return source
