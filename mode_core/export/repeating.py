"""A recipe.yaml carried out: samples → run → bits → checkpoint, every step as it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mode_core.bundled import PORTABLE
from mode_core.errors import ExportError
from mode_core.export.recipe import Recipe, digest_of_bits
from mode_core.export.writing import ExportResult, export
from mode_core.jobs import Cancel, ProgressHook
from mode_core.runs.run import Run
from mode_core.samples import SampleList, read_samples, samples_digest

if TYPE_CHECKING:
    from mode_core.models import LoadedModel

KEPT_AS = "recipe"  # the allocation's name in the run


class Load(Protocol):
    """Opens a model: its folder or hub id, and the type of its weights, as `load_model` takes them."""

    def __call__(self, source: str, *, dtype: str) -> LoadedModel: ...


@dataclass(frozen=True)
class Repeated:
    """A run and an export that were made by a recipe; `same_bits`: are they those that it names (None: it names
    none)?"""

    run: Run
    result: ExportResult
    same_bits: bool | None


def repeat(
    recipe: Recipe,
    run_folder: str | Path,
    out: str | Path,
    load: Load,
    *,
    trust_remote_code: bool = False,
    resume: bool = False,
    progress: ProgressHook | None = None,
    cancel: Cancel | None = None,
) -> Repeated:
    """Measure into a new run (with `resume`: go on with it), solve, and write the export.

    Raises:
        ExportError: samples or a model other than the recipe was made with, or that it does not say where they lie.
        ModeError: as the steps do.
    """
    from mode_core.calibration import calibrate
    from mode_core.models import usable

    record, step = recipe.record, recipe.record["export"]
    samples = recorded_samples(record["samples"], "samples")
    looked_at = recorded_samples(step["samples"], "export.samples") if step.get("samples") else None
    source = _here(record["model"]["source"])
    loaded = load(source, dtype=record["model"]["dtype"])
    _check_revision(record["model"], loaded)
    run = Run.open(run_folder) if resume else Run.create(run_folder)
    with run.measuring():
        statistics = calibrate(loaded, samples, recipe.settings, run, progress, cancel)
    allocation = recipe.request.solve(statistics, recipe.counted, record["allocation"].get("fixed_bytes", 0))
    run.save_allocation(KEPT_AS, allocation)
    weights: dict[str, Any] = {"checkpoint": source, "trust_remote_code": trust_remote_code}
    if not step.get("stream", False):
        dtype = step.get("dtype", record["model"]["dtype"])
        weights = {"loaded": loaded if dtype == record["model"]["dtype"] else load(source, dtype=dtype)}
    if looked_at is not None:
        looked_at = usable(loaded, looked_at, cancel=cancel)
    weights |= {name: step[name] for name in ("shard_bytes", "options") if name in step}
    hooks = {"progress": progress, "cancel": cancel}
    result = export(
        step["target"], allocation, out, run=run, quantizer=recipe.quantizer, samples=looked_at, **weights, **hooks
    )
    told = record.get("bits")
    return Repeated(run, result, None if told is None else told == digest_of_bits(result.fitted.allocation))


def recorded_samples(told: Mapping[str, Any], field: str) -> SampleList:
    """The samples that a recipe names, or run.json; where they are the ones.

    Raises:
        ExportError: it does not say where they lie, or others lie there.
    """
    if told["path"] is None:
        raise ExportError(
            f"The recipe does not say where its samples lie ({field}.path): they were uploaded, or read by an earlier "
            "version. Write their folder or file there."
        )
    images = told.get("images")
    draw = {name: told[name] for name in ("limit", "first", "seed") if name in told}
    found = read_samples(_here(told["path"]), None if images is None else _here(images), "collect", **draw)
    if told.get("digest", digest := samples_digest(found)) != digest:
        raise ExportError(
            f"The samples at {told['path']} have the digest {digest}, those of the recipe {told['digest']}: others, or "
            f"in another order. Give those, or take the line {field}.digest out to use these."
        )
    return found


def _check_revision(told: Mapping[str, Any], loaded: LoadedModel) -> None:
    if told.get("revision", loaded.revision) != loaded.revision:
        raise ExportError(
            f"The model {told['source']} has the revision {loaded.revision}, the recipe was made with "
            f"{told['revision']}. Get that one, or take the line model.revision out to go on with this one."
        )


def _here(path: str) -> str:
    """A path as it is from here, or within the place that portable paths begin in; a hub id stays."""
    return path if Path(path).exists() or not (PORTABLE / path).exists() else str(PORTABLE / path)
