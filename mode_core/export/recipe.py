"""recipe.yaml: what a checkpoint was made from, step by step, so that `python -m mode_core run` makes it again.

    recipe = Recipe.read("recipe.yaml")                # every field checked; refused in words
    repeated = repeat(recipe, "runs/again", "exports/again")

Its parts are the nouns that were handed on: where the samples lie, `CalibrationSettings`, `AllocationRequest`,
`Quantizer`. Nothing in it is executed, and leave to run a model's own code is never read from it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired

import numpy as np
from typing_extensions import TypedDict

from mode_core.allocation.records import Allocation
from mode_core.calibration.settings import CalibrationSettings
from mode_core.errors import ExportError, ModeError
from mode_core.export.request import Request
from mode_core.export.target import Fitted, Target
from mode_core.importance import METHODS
from mode_core.json_files import CLOSED, Count, Name, check_format, checked, shape_of
from mode_core.quantization.settings import Quantizer
from mode_core.request import AllocationRequest
from mode_core.runs.run import Run, portable_samples
from mode_core.versions import versions
from mode_core.yaml_files import read_yaml, yaml_of

FORMAT, RECIPE = "mode-recipe/1", "recipe.yaml"
HEAD = """\
# Repeats this export, from the samples on: python -m mode_core run recipe.yaml --run <new folder> --out <new folder>
# `revision` and `digest` are checked; take such a line out to go on with another model, or other samples.
"""
REQUEST, QUANTIZER, CALIBRATION = map(shape_of, (AllocationRequest, Quantizer, CalibrationSettings))


class _Model(TypedDict):
    __pydantic_config__ = CLOSED
    source: Name
    revision: NotRequired[str | None]
    dtype: Name


class _Samples(TypedDict):
    __pydantic_config__ = CLOSED
    path: Name | None
    images: NotRequired[Name | None]
    limit: NotRequired[Count | None]
    first: NotRequired[bool]
    seed: NotRequired[Count]
    digest: NotRequired[str]


class _Allocate(TypedDict):
    __pydantic_config__ = CLOSED
    request: REQUEST
    quantizer: NotRequired[QUANTIZER]  # whose bytes counted
    fixed_bytes: NotRequired[Count]


class _Export(TypedDict):
    __pydantic_config__ = CLOSED
    target: Name
    quantizer: QUANTIZER
    samples: NotRequired[_Samples | None]  # that the quantizer looks at
    options: NotRequired[dict[str, str]]
    stream: NotRequired[bool]
    dtype: NotRequired[str]
    shard_bytes: NotRequired[Count]


class _Record(TypedDict):
    __pydantic_config__ = CLOSED
    format: str
    model: _Model
    samples: _Samples
    calibration: CALIBRATION
    allocation: _Allocate
    export: _Export
    bits: NotRequired[str]
    made_with: NotRequired[dict[str, str | None]]


def digest_of_bits(allocation: Allocation) -> str:
    """Name of the bits of every expert: equal ones have the same."""
    seal = hashlib.sha256()
    for bank, bits in sorted(allocation.bits.items()):
        seal.update(bank.encode() + b"\0" + np.ascontiguousarray(bits, np.int16).tobytes())
    return seal.hexdigest()[:16]


@dataclass(frozen=True)
class Recipe:
    """A run from the samples to a checkpoint. `record` is the content of recipe.yaml, `settings`, `request`, `counted`
    and `quantizer` its nouns: of calibration, of allocation, whose bytes counted there, and of the export."""

    record: Mapping[str, Any]
    settings: CalibrationSettings
    request: AllocationRequest
    counted: Quantizer
    quantizer: Quantizer

    @classmethod
    def of(cls, record: Mapping[str, Any], where: object = RECIPE) -> Recipe:
        """Check a recipe that lies at `where`.

        Raises:
            ExportError: a field that there is not, one that is missing or of another kind, or a value that makes no
                sense; it is named.
        """
        check_format(record, FORMAT, where, ExportError, "recipe of a run")
        record = checked(record, _Record, where, ExportError, "cannot be run")
        allocation, part = record["allocation"], "calibration"
        try:
            settings = CalibrationSettings.from_dict(record[part])
            part = "allocation"
            request = AllocationRequest.from_dict(allocation["request"])
            counted = Quantizer.from_dict(allocation.get("quantizer", {}))
            part = "export"
            quantizer = Quantizer.from_dict(record[part]["quantizer"])
        except ModeError as refused:
            raise ExportError(f"{where} cannot be run: {part}: {refused}") from None
        return cls(record, settings, request, counted, quantizer)

    @classmethod
    def read(cls, path: str | Path) -> Recipe:
        """Read a recipe.yaml; raises as `of`, or because the file is missing or no YAML."""
        return cls.of(read_yaml(Path(path), ExportError, "recipe"), path)

    def text(self) -> str:
        """The file's content."""
        return HEAD + yaml_of(self.record)


def recipe_of(target: Target, asked: Request, fitted: Fitted, run: Run | None) -> Recipe:
    """What repeats an export of `asked`.

    Raises:
        ExportError: it cannot be repeated from its samples; why.
    """
    allocation, statistics = asked.allocation, asked.statistics
    if run is None or statistics is None or asked.costs is not None:
        raise ExportError("it was exported without the run that the bits were solved on")
    info = run.info
    if "merged_from" in info or not {"settings", "samples", "model"} <= set(info):
        raise ExportError("its run was merged or imported, not measured on samples in one piece")
    try:
        request = AllocationRequest.of(allocation, statistics)
    except ModeError as refused:
        raise ExportError(str(refused)) from None
    if request.traffic:
        raise ExportError("its frequencies are those of traffic that was served, which a recipe does not hold")
    if METHODS[request.method].needs == "logit_kl":
        raise ExportError("the KL of the answer is measured in a step of its own, which a recipe does not hold")
    fixed = int(allocation.settings.get("fixed_bytes", 0))
    counted = Quantizer.from_dict(allocation.settings.get("quantizer", {}))
    if digest_of_bits(request.solve(statistics, counted, fixed)) != digest_of_bits(allocation):
        raise ExportError("its bits are not those that the request within it gives on the run")
    origin = getattr(asked.samples, "origin", None)
    record = {
        "format": FORMAT,
        "model": {key: info["model"][key] for key in ("source", "revision", "dtype") if key in info["model"]},
        "samples": {"path": None} | dict(info["samples"].get("origin", {})) | {"digest": info["samples"]["digest"]},
        "calibration": dict(info["settings"]),
        "allocation": {"request": request.to_dict(), "quantizer": counted.to_dict()},
        "export": {
            "target": target.name,
            "quantizer": asked.quantizer.to_dict(),
            "stream": asked.loaded is None,
            "dtype": "auto" if asked.loaded is None else str(asked.loaded.dtype).removeprefix("torch."),
            "shard_bytes": asked.shard_bytes,
        },
        "bits": digest_of_bits(fitted.allocation),
        "made_with": versions(),
    }
    if fixed:
        record["allocation"]["fixed_bytes"] = fixed
    if asked.options:
        record["export"]["options"] = dict(asked.options)
    if asked.quantizer.kind.needs_samples:
        record["export"]["samples"] = {"path": None} if origin is None else portable_samples(origin)
    return Recipe.of(record)
