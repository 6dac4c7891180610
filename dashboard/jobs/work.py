"""What the jobs of the dashboard do, without Streamlit: they run on the worker thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dashboard.jobs.answer_kl import AnswerKL
from dashboard.state import model_sources, own_code
from dashboard.state.measured import ALLOCATION, ORIGINAL, UNIFORM, Measurement
from mode_core.allocation import Allocation
from mode_core.jobs import Cancel, Progress, ProgressHook, check
from mode_core.modalities import CODES
from mode_core.quantization import exclusive, original_expert_bytes, quantize_experts
from mode_core.request import Quantizer
from mode_core.run import Run
from mode_core.runs.run import ANCHOR_FILE


class ModelShelf:
    """Holds one loaded model for the whole process; asking for another one replaces it. Thread-safe.

    A model that was loaded with leave to run its own code is another one than the same model without.
    Memory: one model. While a job still works on the former one, both.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: tuple[str, bool] | None = None
        self._loaded: Any = None

    def get(self, source: str, trusted: bool = False) -> Any:
        """The model of this folder, loaded on the first call; others wait meanwhile. `trusted`: its own code may run.

        Raises:
            ModelError: it may not be read, cannot be loaded, or has code of its own and no leave.
        """
        from mode_core.models import load_model

        with self._lock:
            if self._held != (source, trusted):
                self._held = self._loaded = None  # let go of the old one before the new one takes memory
                with own_code.named_switch(source):
                    self._loaded = load_model(model_sources.allowed(source), trust_remote_code=trusted)
                self._held = source, trusted
            return self._loaded


SHELF = ModelShelf()  # the process's own


def load_processor(source: str, trusted: bool = False) -> tuple[Any, tuple[int, ...], tuple[int, ...]]:
    """A model's processor and the ids of its vision and audio tokens (none where it has none), without the weights."""
    from mode_core.models import ModelError
    from mode_core.models.loading import read_processor

    source = model_sources.allowed(source)
    if not (Path(source) / "config.json").is_file():
        raise ModelError(f"{source} is no model's folder: it has no config.json. Give the folder of a model.")
    with own_code.named_switch(source):
        return read_processor(source, trusted)


class Stages:
    """Several pieces of work on one bar: `stages.hook("quantizing")` begins the next piece.

    The first piece is loading, which says nothing of the others' pace. Weights say how long these are expected to take
    beside each other; what is left is reckoned from how long they took so far, each by those of its own weight first.
    So a bar that began with guesses ends with measurements; it is the share of the whole time, and never goes back.
    """

    STEPS = 1000

    def __init__(self, hook: ProgressHook, weights: Sequence[float]):
        self._hook, self._weights = hook, weights
        self._begun = self._piece_begun = time.monotonic()
        self._took: dict[int, float] = {}  # seconds of every finished piece but the first
        self._piece, self._done = -1, 0.0

    def hook(self, title: str) -> ProgressHook:
        """Begin the next piece, and get the hook that it reports to."""
        now = time.monotonic()
        if self._piece > 0:
            self._took[self._piece] = now - self._piece_begun
        self._piece, self._piece_begun = self._piece + 1, now
        self._tell(0.0, title)

        def report(progress: Progress) -> None:
            self._tell(progress.fraction, f"{title}: {progress.what}")

        return report

    def _tell(self, fraction: float, what: str) -> None:
        now, weights = time.monotonic(), self._weights
        elapsed, spent = now - self._begun, now - self._piece_begun
        known = self._took | ({self._piece: spent / fraction} if fraction > 0 and self._piece > 0 else {})
        left = None
        if known:
            expected = [_expected(known, weights, place) for place in range(self._piece, len(weights))]
            left = max(0.0, expected[0] - spent) + sum(expected[1:])
            if weights[self._piece] in {weights[place] for place in known}:  # else nothing like it was timed yet
                self._done = max(self._done, elapsed / (elapsed + left) if elapsed else 0.0)
        self._hook(Progress(round(self.STEPS * self._done), self.STEPS, what, elapsed, left))


def _expected(known: Mapping[int, float], weights: Sequence[float], place: int) -> float:
    """Seconds of a piece: its own, else by the mean pace of those of its weight, else of all that are known."""
    if place in known:
        return known[place]
    alike = [other for other in known if weights[other] == weights[place]] or list(known)
    return weights[place] * sum(known[other] for other in alike) / sum(weights[other] for other in alike)


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
    loaded = shelf.get(source, trusted)
    loaded.check_template()
    check(cancel)
    with exclusive(loaded):
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
    stages.hook("loading the model")
    loaded = shelf.get(str(run.model_source), trusted)
    stages.hook("timing a pass")
    with exclusive(loaded):
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
    stages.hook("loading the model")
    loaded = shelf.get(str(run.model_source), trusted)
    with exclusive(loaded):
        samples = usable(loaded, samples, cancel=cancel)
        return check_run(run, loaded, samples, progress=stages.hook("pass"), cancel=cancel)


LOOKED_AT = 8  # samples encoded for an estimate of all


def estimate_tokens(source: str, samples: Sequence[Any], trusted: bool = False) -> tuple[dict[str, int], int]:
    """(tokens by modality, samples looked at): exact for a few samples, scaled up from some of many.

    Only the processor is loaded, not the weights.

    Raises:
        ModelError: no such model, or no processor in its folder.
        SampleError: none of those that were looked at can be used; the first reason.
    """
    from mode_core.models.encoding import encode
    from mode_core.samples import SampleError

    processor, vision_ids, audio_ids = load_processor(source, trusted)
    looked = samples[:: max(1, len(samples) // LOOKED_AT)][:LOOKED_AT] if len(samples) > LOOKED_AT else samples
    modality, refused = [], []
    for sample in looked:
        try:
            modality.append(encode(processor, vision_ids, [sample], audio_ids=audio_ids).modality)
        except SampleError as reason:  # it will be left out and named
            refused.append(reason)
    if not modality:
        raise refused[0]
    scale = len(samples) / len(looked)
    counts = {name: sum(int((row == code).sum()) for row in modality) for name, code in CODES.items()}
    return {name: round(count * scale) for name, count in counts.items()}, len(looked)


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
    with exclusive(loaded):
        hook, given = stages.hook("original"), samples
        samples = usable(loaded, given, cancel=cancel)
        reference = record_reference(loaded, samples, progress=hook, cancel=cancel)
        scores = {ORIGINAL: evaluate(loaded, samples, progress=stages.hook("original's answers"), cancel=cancel)}
        left_out = samples.errors[len(getattr(given, "errors", ())) :]
        measured, notes = {}, [f"Left out: {reason}" for reason in left_out]
        for model, allocation in ((ALLOCATION, chosen), (UNIFORM, uniform)):
            hook = stages.hook(f"quantizing, {model}")
            with quantize_experts(
                loaded, allocation, quantizer, samples=calibration, progress=hook, cancel=cancel
            ) as quantized:
                hook = stages.hook(f"answers, {model}")
                scores[model] = evaluate(loaded, samples, reference=reference, progress=hook, cancel=cancel)
                measured |= {model: quantized.packed_bytes, ORIGINAL: quantized.original_bytes}
                notes += rounding_notes(quantized, model)
    predicted = {
        ORIGINAL: sum(original_expert_bytes(bank.shape) * bank.shape.experts for bank in run.statistics),
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
    chosen: Allocation,
    uniform: Allocation,
    quantizer: Quantizer,
    sample: Any,
    calibration: Sequence[Any] | None = None,
    *,
    trusted: bool = False,
    progress: ProgressHook,
    cancel: Cancel,
) -> dict[str, Any]:
    """The same question to the original, to `chosen` and to `uniform`: model → its `Answer`."""
    from mode_core.evaluation import ask as answer

    stages = Stages(progress, (2, 1, 2, 2))
    stages.hook("loading the model")
    loaded = shelf.get(str(run.model_source), trusted)
    with exclusive(loaded):
        stages.hook("asking the original")
        given = {ORIGINAL: answer(loaded, sample)}
        for model, allocation in ((ALLOCATION, chosen), (UNIFORM, uniform)):
            hook = stages.hook(f"quantizing and asking, {model}")
            with quantize_experts(loaded, allocation, quantizer, samples=calibration, progress=hook, cancel=cancel):
                given[model] = answer(loaded, sample)
    return given


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
    with exclusive(loaded):
        return export(
            target, allocation, folder, run=run, loaded=loaded, quantizer=quantizer, samples=calibration,
            options=options, progress=hook, cancel=cancel,
        )  # fmt: skip
