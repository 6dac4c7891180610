"""What the jobs of the dashboard do, without Streamlit: they run on the worker thread."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dashboard.jobs.answer_kl import AnswerKL
from dashboard.jobs.shelf import ModelShelf
from dashboard.jobs.stages import Stages
from dashboard.state import model_sources, own_code
from dashboard.state.measured import ALLOCATION, ORIGINAL, UNIFORM, Measurement
from mode_core import quantization  # its names one by one, when asked for: most of them bring torch
from mode_core.allocation import Allocation
from mode_core.jobs import Cancel, ProgressHook, check
from mode_core.modalities import CODES
from mode_core.request import Quantizer
from mode_core.run import Run
from mode_core.runs.run import ANCHOR_FILE


def load_processor(source: str, trusted: bool = False) -> tuple[Any, tuple[int, ...], tuple[int, ...]]:
    """A model's processor and the ids of its vision and audio tokens (none where it has none), without the weights."""
    from mode_core.models import ModelError
    from mode_core.models.loading import read_processor

    source = model_sources.allowed(source)
    if not (Path(source) / "config.json").is_file():
        raise ModelError(f"{source} is no model's folder: it has no config.json. Give the folder of a model.")
    with own_code.named_switch(source):
        return read_processor(source, trusted)


def calibrate_run(
    shelf: ModelShelf,
    source: str,
    samples: Sequence[Any],
    settings: Any,
    folder: Path,
    kl: AnswerKL | None = None,
    *,
    trusted: bool = False,
    resume: bool = False,
    progress: ProgressHook,
    cancel: Cancel,
) -> Path:
    """Calibrate into a new run folder, or with `resume` go on with a half-done one; a cancelled one stays, holding the
    samples that were finished. The KL of the answer comes after, where it was asked for and takes no longer than
    agreed; last the anchor of a small model, as on the command line.
    """
    from mode_core.calibration import calibrate
    from mode_core.comparison.anchoring import anchored_unasked, measure_anchor

    stages = Stages(progress, (1, 12, 2) if kl is None else (1, 1, 12, 36, 2))
    stages.hook("loading the model")
    loaded = shelf.get(source, trusted, fetch=True)
    loaded.check_template()
    check(cancel)
    with quantization.exclusive(loaded):
        if kl is not None:
            stages.hook("timing a forward pass")
            kl.check_cost(loaded, samples, settings)
        run = Run.open(folder) if resume else Run.create(folder)
        with run.measuring():
            found = calibrate(loaded, samples, settings, run=run, progress=stages.hook("sample"), cancel=cancel)
            if kl is not None:
                kl.measure(run, loaded, samples, settings, stages.hook("answers"), cancel)
            if anchored_unasked(loaded):
                known = set(found.samples)
                used, hook = [each for each in samples if each.id in known], stages.hook("anchor of predictions")
                measure_anchor(loaded, found, used, progress=hook, cancel=cancel).save(run.path / ANCHOR_FILE)
    return folder


def _loaded_for(stages: Stages, shelf: ModelShelf, run: Run, trusted: bool) -> Any:
    stages.hook("loading the model")
    return shelf.get(str(run.model_source), trusted)


def check_cost_of(
    shelf: ModelShelf,
    run: Run,
    samples: Sequence[Any],
    *,
    trusted: bool = False,
    progress: ProgressHook,
    cancel: Cancel,
) -> str:
    """What a check on these samples would cost, in words."""
    from mode_core.comparison import CheckSettings, check_cost
    from mode_core.models import usable

    stages = Stages(progress, (1, 1))
    loaded = _loaded_for(stages, shelf, run, trusted)
    stages.hook("timing a pass")
    with quantization.exclusive(loaded):
        samples = usable(loaded, samples, cancel=cancel)
        return str(check_cost(loaded, samples, run.statistics, CheckSettings()))


def check_estimates(
    shelf: ModelShelf,
    run: Run,
    samples: Sequence[Any],
    *,
    trusted: bool = False,
    progress: ProgressHook,
    cancel: Cancel,
) -> Any:
    """`check_run` on these samples, kept in the run; one that was stopped goes on."""
    from mode_core.comparison.checking import check_run
    from mode_core.models import usable

    stages = Stages(progress, (1, 20))
    loaded = _loaded_for(stages, shelf, run, trusted)
    with quantization.exclusive(loaded):
        samples = usable(loaded, samples, cancel=cancel)
        return check_run(run, loaded, samples, progress=stages.hook("pass"), cancel=cancel)


def compare_cost_of(
    shelf: ModelShelf, run: Run, samples: Sequence[Any], settings: Any, *, trusted: bool = False,
    progress: ProgressHook, cancel: Cancel,
) -> str:  # fmt: skip
    """What comparing methods on these items would cost, in words."""
    from mode_core.comparison.comparing import compare_cost, draws_of
    from mode_core.models import usable

    stages = Stages(progress, (1, 1))
    loaded = _loaded_for(stages, shelf, run, trusted)
    stages.hook("timing a pass")
    with quantization.exclusive(loaded):
        return str(compare_cost(loaded, draws_of(run)[0], usable(loaded, samples, cancel=cancel), settings))


def compare_methods(
    shelf: ModelShelf, run: Run, samples: Sequence[Any], settings: Any, out: Path, *, trusted: bool = False,
    progress: ProgressHook, cancel: Cancel,
) -> Any:  # fmt: skip
    """Methods measured at every budget on these items, kept as evidence in `out`; one that was stopped goes on."""
    from mode_core.comparison.comparing import compare_into, draws_of
    from mode_core.models import usable

    stages = Stages(progress, (1, 20))
    loaded = _loaded_for(stages, shelf, run, trusted)
    with quantization.exclusive(loaded):
        samples = usable(loaded, samples, cancel=cancel)
        draws, kind = draws_of(run)
        told = {"calibration_draws": kind} if len(draws) > 1 else {}
        return compare_into(
            out, out / "measured", loaded, draws, samples, settings, info=told, progress=stages.hook("measuring"),
            cancel=cancel,
        )  # fmt: skip


LOOKED_AT = 8  # samples encoded for an estimate of all


def estimate_tokens(source: str, samples: Sequence[Any], trusted: bool = False) -> tuple[dict[str, int], int, int]:
    """(tokens by modality, samples looked at, vision tokens of video frames): exact for a few samples, scaled up
    from some of many.

    Only the processor is loaded, not the weights.

    Raises:
        ModelError: no such model, or no processor in its folder.
        SampleError: none of those that were looked at can be used; the first reason.
    """
    from mode_core.models.encoding import encode
    from mode_core.samples import SampleError

    processor, vision_ids, audio_ids = load_processor(source, trusted)
    looked = samples[:: max(1, len(samples) // LOOKED_AT)][:LOOKED_AT] if len(samples) > LOOKED_AT else samples
    modality, refused, videos = [], [], 0
    for sample in looked:
        try:
            encoded = encode(processor, vision_ids, [sample], audio_ids=audio_ids)
            modality.append(encoded.modality)
            videos += encoded.videos[0] or 0
        except SampleError as reason:  # it will be left out and named
            refused.append(reason)
    if not modality:
        raise refused[0]
    scale = len(samples) / len(looked)
    counts = {name: sum(int((row == code).sum()) for row in modality) for name, code in CODES.items()}
    return {name: round(count * scale) for name, count in counts.items()}, len(looked), round(videos * scale)


def rounding_notes(quantized: Any, model: str) -> list[str]:
    """What a person should know of how it was quantized, in sentences."""
    thin = sum(map(len, quantized.data_free.values()))
    if not thin:
        return []
    some = ", ".join(f"{bank} {list(experts)[:4]}" for bank, experts in quantized.data_free.items() if experts)
    method = quantized.quantizer.method
    return [f"{model}: {thin} experts had too few tokens for {method} and were rounded to nearest ({some})."]


def measure(
    shelf: ModelShelf,
    run: Run,
    chosen: Allocation,
    uniform: Allocation,
    quantizer: Quantizer,
    samples: Sequence[Any],
    seal: str,
    settings: dict[str, Any],
    keep: bool,
    calibration: Sequence[Any] | None = None,
    *,
    trusted: bool = False,
    progress: ProgressHook,
    cancel: Cancel,
) -> Measurement:
    """Score the original, `chosen` and `uniform` on the same samples, and count their packed bytes.

    `calibration` is what the quantizer may look at. `seal` and `settings` say what was
    measured; `keep` writes the scores into the run.
    """
    from mode_core.evaluation import evaluate, record_reference
    from mode_core.models import usable

    stages = Stages(progress, (1, 3, 3, 1, 3, 1, 3))
    stages.hook("loading the model")
    loaded = shelf.get(str(run.model_source), trusted)
    with quantization.exclusive(loaded):
        hook, given = stages.hook("original"), samples
        samples = usable(loaded, given, cancel=cancel)
        reference = record_reference(loaded, samples, progress=hook, cancel=cancel)
        scores = {ORIGINAL: evaluate(loaded, samples, progress=stages.hook("original's answers"), cancel=cancel)}
        left_out = samples.errors[len(getattr(given, "errors", ())) :]
        measured, notes = {}, [f"Left out: {reason}" for reason in left_out]
        for model, allocation in ((ALLOCATION, chosen), (UNIFORM, uniform)):
            hook = stages.hook(f"quantizing, {model}")
            with quantization.quantize_experts(
                loaded, allocation, quantizer, samples=calibration, progress=hook, cancel=cancel
            ) as quantized:
                hook = stages.hook(f"answers, {model}")
                scores[model] = evaluate(loaded, samples, reference=reference, progress=hook, cancel=cancel)
                measured |= {model: quantized.packed_bytes, ORIGINAL: quantized.original_bytes}
                notes += rounding_notes(quantized, model)
    predicted = {
        ORIGINAL: sum(quantization.original_expert_bytes(bank.shape) * bank.shape.experts for bank in run.statistics),
        ALLOCATION: quantizer.packed_bytes(run.statistics, chosen.bits),
        UNIFORM: quantizer.packed_bytes(run.statistics, uniform.bits),
    }
    done = Measurement(scores, predicted, measured, uniform.average_bits, seal, settings, time.time(), tuple(notes))
    if keep:
        for name, record in done.records().items():
            run.save_evaluation(name, record)
    return done


def ask(
    shelf: ModelShelf,
    run: Run,
    allocations: Mapping[str, Allocation],
    seals: Mapping[str, str],
    quantizer: Quantizer,
    samples: Mapping[str, Any],
    calibration: Sequence[Any] | None = None,
    *,
    trusted: bool = False,
    progress: ProgressHook,
    cancel: Cancel,
) -> dict[str, Any]:
    """A conversation as each model had it to the original and to the `allocations`: model → its `Answer`. `seals` tell
    what is quantized already, and kept on the shelf."""
    from mode_core.evaluation import ask as answer

    stages = Stages(progress, (2, 1, 2, 2))
    stages.hook("loading the model")
    loaded = shelf.get(str(run.model_source), trusted)
    with quantization.exclusive(loaded):
        stages.hook("asking the original")
        given = {ORIGINAL: answer(loaded, samples[ORIGINAL], cancel=cancel)}
        for model, allocation in allocations.items():
            hook = stages.hook(f"quantizing and asking, {model}")
            with shelf.quantized(loaded, allocation, seals[model], quantizer, calibration, hook, cancel):
                given[model] = answer(loaded, samples[model], cancel=cancel)
    return given


def route(
    shelf: ModelShelf,
    run: Run,
    allocation: Allocation,
    quantizer: Quantizer,
    sample: Any,
    seal: str,
    calibration: Sequence[Any] | None = None,
    *,
    trusted: bool = False,
    progress: ProgressHook,
    cancel: Cancel,
) -> tuple[str, Any, Any, Any]:
    """`seal`, the `TokenRoutes` of one sample in the model as it was loaded, and quantized (both now, since a run may
    have been made in another precision), and how many experts the second lacks, `[banks, T]`."""
    from mode_core.calibration.routing import routes_of

    stages = Stages(progress, (2, 2, 1))
    stages.hook("loading the model")
    loaded = shelf.get(str(run.model_source), trusted)
    with quantization.exclusive(loaded):
        before, hook = routes_of(loaded, sample), stages.hook("quantizing")
        with quantization.quantize_experts(
            loaded, allocation, quantizer, samples=calibration, progress=hook, cancel=cancel
        ):
            stages.hook("one forward pass")
            after = routes_of(loaded, sample)
    return seal, before, after, before.parted(after)


def export_whole(
    shelf: ModelShelf,
    run: Run,
    target: str,
    allocation: Allocation,
    folder: Path,
    quantizer: Quantizer,
    calibration: Sequence[Any] | None = None,
    *,
    options: Mapping[str, str] | None = None,
    trusted: bool = False,
    progress: ProgressHook,
    cancel: Cancel,
) -> Any:
    """Write a target that needs the model's weights, told its own `options`; returns the `ExportResult`."""
    from mode_core.export import export

    stages = Stages(progress, (1, 4))
    stages.hook("loading the model")
    loaded = shelf.get(str(run.model_source), trusted)
    hook = stages.hook("writing")
    with quantization.exclusive(loaded):
        return export(
            target, allocation, folder, run=run, loaded=loaded, quantizer=quantizer, samples=calibration,
            options=options, progress=hook, cancel=cancel,
        )  # fmt: skip
