"""The verbs `export` (an allocation for other software) and `import` (the paper's released code's files)."""

from __future__ import annotations

import argparse
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from mode_core.cli import sample_options
from mode_core.cli.arguments import add_quantizer
from mode_core.cli.quantize import asked_quantizer
from mode_core.cli.verbs import Result, load_for, run_allocation
from mode_core.errors import SettingsError
from mode_core.jobs import ProgressHook
from mode_core.runs.run import Run

if TYPE_CHECKING:
    from mode_core.export import Target
    from mode_core.samples import SampleList


def add_export_arguments(parser: argparse.ArgumentParser, bundled_calibration: str) -> None:
    """What `export` can be told, beside model and grid."""
    parser.add_argument("--run", help="folder of a run")
    parser.add_argument("--allocation", help="name in the run, or a JSON file")
    parser.add_argument("--target", help="what to write; a wrong name lists all targets")
    parser.add_argument("--out", help="folder to write into")
    parser.add_argument(
        "--stream",
        action="store_true",
        help="read the model's folder piece by piece instead of loading it: for checkpoints larger than the memory",
    )
    parser.add_argument(
        "--shard-mb", type=int, default=1000, help="largest weight file, held in memory (default: 1000)"
    )
    parser.add_argument("--base-model", metavar="OWNER/NAME", help="hub id of the original, for the card")
    parser.add_argument("--types", help="gguf: codes (default), all, plan, or names such as Q4_K,IQ3_S")
    parser.add_argument("--rest", help="gguf: type of what is no routed expert, such as Q8_0 (default: as it was)")
    parser.add_argument("--imatrix", help="gguf: an importance matrix that K and IQ types are rounded with")
    parser.add_argument("--weighting", help="imatrix: modality (default; redundant vision tokens count 0), or plain")
    parser.add_argument(
        "--budget-per",
        choices=("model", "layer"),
        help="targets with one width for a layer or its half: share the budget over the model (default), or not",
    )
    parser.add_argument(
        "--verify", metavar="FILE", help="check a finished GGUF file against the export in --out; nothing is written"
    )
    add_quantizer(parser, "--calibration", bundled_calibration)


def export(options: argparse.Namespace, progress: ProgressHook, cancel: threading.Event) -> Result:
    """An allocation → files that other software loads, solved again where the target's unit is coarser."""
    from mode_core.export import TARGETS
    from mode_core.export import export as write

    if options.verify:
        from mode_core.export.gguf_check import verify_gguf

        return verify_gguf(options.verify, options.out)
    if missing := [f"--{name}" for name in ("run", "allocation", "target", "out") if getattr(options, name) is None]:
        raise SettingsError(f"export needs {', '.join(missing)} (or --verify FILE).")
    run = Run.open(options.run)
    if options.target not in TARGETS:
        listed = "\n".join(f"  {name}: {target.title}" for name, target in TARGETS.items())
        raise SettingsError(f"There is no export target {options.target!r}. Targets:\n{listed}")
    target, allocation = TARGETS[options.target], run_allocation(run, options.allocation)
    quantizer, samples = asked_quantizer(options, run)
    if target.takes_samples and samples is None:
        samples = _own_samples(options, run)
    weights: dict[str, object] = {}
    if options.stream and (target.needs_model or options.model):
        weights |= {"checkpoint": _folder(options, run), "trust_remote_code": options.trust_remote_code}
    elif target.needs_model:
        weights["loaded"] = load_for(options, run)
        if samples is not None:
            from mode_core.models import usable

            samples = usable(weights["loaded"], samples, options.strict, cancel)
    written = write(
        options.target,
        allocation,
        options.out,
        run=run,
        quantizer=quantizer,
        samples=samples,
        options=_own_options(options, target),
        shard_bytes=options.shard_mb * 1_000_000,
        base_model=options.base_model,
        progress=progress,
        cancel=cancel,
        before=lambda fitted: print(*fitted.notes, sep="\n", file=sys.stderr) if fitted.notes else None,
        **weights,
    )
    result: Result = {"target": options.target, "files": [str(path) for path in written.files], "folder": options.out}
    result["bytes"] = written.manifest["bytes"]
    if samples is not None:
        result |= sample_options.told(samples)
    if written.fitted.price is not None:
        result["price_of_unit"] = written.fitted.price
    notes = [*written.manifest["notes"], *([target.warning] if target.warning else [])]
    return result | ({"notes": notes} if notes else {})


def _own_options(options: argparse.Namespace, target: Target) -> dict[str, str]:
    """What was said to this target alone.

    Raises:
        SettingsError: said to one that does not understand it.
    """
    from mode_core.export import TARGETS

    said = {}
    for name in dict.fromkeys(name for each in TARGETS.values() for name in each.offers):
        if (value := getattr(options, name)) is None:
            continue
        if name not in target.offers:
            whose = ", ".join(each.name for each in TARGETS.values() if name in each.offers)
            raise SettingsError(f"--{name} belongs to the target {whose}, not to {target.name!r}; leave it out.")
        said[name] = value
    return said | ({} if options.budget_per is None else {"budget_per": options.budget_per})


def _own_samples(options: argparse.Namespace, run: Run) -> SampleList | None:
    """The samples that were asked for, else those that the run was measured on, where it says which."""
    from mode_core.export.auto_round_recipe import MOST_SAMPLES
    from mode_core.export.repeating import recorded_samples

    if options.quantizer_samples != options.parser.get_default("quantizer_samples"):
        given = options.quantizer_samples, options.quantizer_images, options.quantizer_limit or MOST_SAMPLES
        return sample_options.read(options, *given)
    told = run.info.get("samples", {})
    if "origin" not in told:
        return None
    found = recorded_samples(told["origin"] | {"digest": told["digest"]}, "samples")
    return found if len(found) <= MOST_SAMPLES else found.draw(MOST_SAMPLES)


def _folder(options: argparse.Namespace, run: Run) -> Path:
    source = Path(options.model or run.model_source or "")
    if not (source / "config.json").is_file():
        raise SettingsError(f"--stream reads the model's folder, and {source} is none; give it with --model.")
    return source


def add_import_arguments(parser: argparse.ArgumentParser) -> None:
    """What `import` takes."""
    parser.add_argument("frequency", help="frequency JSON of the released code (record_freq.py, with --detail)")
    parser.add_argument("sensitivity", help="sensitivity JSON of the released code (collect_expert_sensitivity.py)")
    parser.add_argument("--out", help="folder of the new run")
    parser.add_argument("--key-ratio", type=float, help="share of dominant vision tokens (default: as the file says)")
    parser.add_argument(
        "--sizes",
        type=int,
        nargs=3,
        metavar=("HIDDEN", "INTERMEDIATE", "TOP_K"),
        help="sizes of the experts (default: those of the paper's models)",
    )


def import_released(options: argparse.Namespace, progress: ProgressHook, cancel: threading.Event) -> Result:
    """The released code's two files → a run."""
    from mode_core.runs.released_json import import_run

    _, statistics = import_run(
        options.frequency,
        options.sensitivity,
        options.out,
        key_ratio=options.key_ratio,
        sizes=tuple(options.sizes) if options.sizes else None,
    )
    (ratio,) = statistics.settings["key_ratios"]
    return {
        "run": options.out,
        "model": statistics.settings["model"],
        "banks": len(statistics.banks),
        "experts_per_bank": next(iter(statistics)).shape.experts,
        "bits": list(statistics.bits),
        "key_ratio": ratio,
        "note": f"These files know only the key ratio {ratio:g}, and no intervals.",
        "next": f"python -m mode_core allocate --run {options.out} --key-ratio {ratio:g} --average-bits 3 --name three",
    }
