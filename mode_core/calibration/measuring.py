"""The verb: a model and samples in, `ExpertStatistics` out, in one pass of the model."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import torch

from mode_core import __version__
from mode_core.calibration.errors import CalibrationError
from mode_core.calibration.exemplars import ExemplarSums
from mode_core.calibration.gallery import Gallery
from mode_core.calibration.gradients import add_gradients
from mode_core.calibration.probe import Observation, Probe
from mode_core.calibration.sensitivity import RoundedBank
from mode_core.calibration.settings import CalibrationSettings
from mode_core.calibration.sums import BankSums
from mode_core.jobs import Cancel, Cancelled, ProgressHook, Reporter
from mode_core.models import TEXT, VISION, Encoded, LoadedModel
from mode_core.quantization.guard import exclusive, is_quantized
from mode_core.run import Run, portable_source
from mode_core.samples import Sample, SampleError, samples_digest
from mode_core.statistics import ExpertStatistics

CHECKPOINT_SECONDS = 60.0  # how often what was measured is written to the run meanwhile
VERSIONS = ("torch", "transformers", "numpy", "safetensors")


@dataclass
class _Measurement:
    """A calibration under way. Sums are only ever read between batches, so they are whole."""

    loaded: LoadedModel
    settings: CalibrationSettings
    run: Run | None
    given: Sequence[Sample]
    gallery: Gallery
    exemplars: ExemplarSums
    sums: dict[str, BankSums] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    refused: list[dict[str, str]] = field(default_factory=list)
    tokens: dict[str, int] = field(default_factory=lambda: {"text": 0, "vision": 0})
    began: float = field(default_factory=time.monotonic)
    saved: float = field(default_factory=time.monotonic)

    def observe(self, seen: Observation) -> None:
        self.gallery.observe(seen)
        self.exemplars.observe(seen)
        self.sums[seen.bank.name].add(seen)

    def finish_batch(self, samples: list[Sample], encoded: Encoded) -> None:
        self.gallery.note(samples, encoded)
        self.done += [sample.id for sample in samples]
        for name, kind in (("text", TEXT), ("vision", VISION)):
            self.tokens[name] += int((encoded.modality == kind).sum())

    def statistics(self) -> ExpertStatistics:
        made = {name: self.sums[name].statistics() for name in self.loaded.banks}
        settings = self.settings.measured_with() | {"model": self.loaded.name, "revision": self.loaded.revision}
        return ExpertStatistics(made, self.settings.bits, self.settings.signals, settings, tuple(self.done))

    def save(self, state: str) -> ExpertStatistics:
        """Write what was measured so far; the statistics are returned."""
        statistics = self.statistics()
        if self.run is not None:
            self.gallery.save(self.run)
            self.exemplars.save(self.run, self.given)
            self.run.write_statistics(statistics, state=state, **self.info())
        self.saved = time.monotonic()
        return statistics

    def info(self) -> dict[str, Any]:
        """What run.json says beside format, name and state."""
        loaded = self.loaded
        return {
            "model": {
                "source": portable_source(loaded.source),
                "name": loaded.name,
                "class": type(loaded.model).__name__,
                "revision": loaded.revision,
                "dtype": str(loaded.dtype).removeprefix("torch."),
                "device": loaded.device.type,
                "processor": type(loaded.processor).__name__,
            },
            "samples": {
                "given": len(self.given),
                "measured": len(self.done),
                "digest": samples_digest(self.given),
            },
            "refused": self.refused,
            "settings": self.settings.to_dict(),
            "tokens": dict(self.tokens),
            "seconds": round(time.monotonic() - self.began, 3),
            "peak_memory_bytes": peak_memory(loaded.device),
            "versions": {"mode_core": __version__, "python": platform.python_version()}
            | {package: version(package) for package in VERSIONS},
        }


def calibrate(
    loaded: LoadedModel,
    samples: Sequence[Sample],
    settings: CalibrationSettings | None = None,
    run: Run | None = None,
    progress: ProgressHook | None = None,
    cancel: Cancel | None = None,
) -> ExpertStatistics:
    """Run the model once over the samples and sum what its experts do; with `run`, keep everything there.

    A sample that the model's processor refuses is listed with the reason under `refused` in run.json; the others are
    measured. What was measured is written to the run every minute, and when the work is stopped.

    Memory: the model, (1 + B) times its experts for the sensitivity, the sums of `BankSums`, and one batch; none of
    it grows with the number of samples.

    Raises:
        CalibrationError: no samples, all refused, or a family that the probe cannot see into.
        Cancelled: stopped on request; the run is then "half done" with the samples measured so far.
    """
    settings = settings or CalibrationSettings()
    _check(samples)
    with exclusive(loaded):
        if is_quantized(loaded):
            raise CalibrationError("The model has quantized weights in it now; restore it before calibrating.")
        looked_at = Gallery(settings.token_scores_for), ExemplarSums(loaded, settings.exemplars)
        return _measure(_Measurement(loaded, settings, run, samples, *looked_at), progress, cancel)


def _check(samples: Sequence[Sample]) -> None:
    if not samples:
        raise CalibrationError("There are no samples to calibrate with; give at least one picture with a question.")
    seen: set[str] = set()
    if twice := [s.id for s in samples if s.id in seen or seen.add(s.id)]:
        raise CalibrationError(f"The sample {twice[0]} is given twice; drop one, or give it another id.")


def _measure(work: _Measurement, progress: ProgressHook | None, cancel: Cancel | None) -> ExpertStatistics:
    loaded, settings, samples = work.loaded, work.settings, work.given
    reporter = Reporter(progress, len(loaded.banks) + len(samples), cancel)
    for bank in loaded.banks.values():
        work.sums[bank.name] = BankSums(bank, RoundedBank.of(bank, settings), settings)
        reporter.step(f"rounding the experts of layer {bank.layer}")
    try:
        with Probe(loaded, settings.signals, work.observe) as probe:
            for first in range(0, len(samples), settings.batch_size):
                batch = list(samples[first : first + settings.batch_size])
                _measure_batch(work, probe, batch)
                if work.run is not None and time.monotonic() - work.saved > CHECKPOINT_SECONDS:
                    work.save("half done")
                reporter.step(f"sample {first + len(batch)} of {len(samples)}", len(batch))
    except Cancelled:
        if work.done:
            work.save("half done")
        raise
    if not work.done:
        raise CalibrationError(f"All {len(samples)} samples were refused. The first: {work.refused[0]['reason']}")
    return work.save("done")


def _measure_batch(work: _Measurement, probe: Probe, batch: list[Sample]) -> None:
    """Encode and run one batch; where it is refused, find out which samples are at fault."""
    try:
        encoded = _encode(work, batch)
    except SampleError as refused:
        if len(batch) == 1:
            work.refused.append({"sample": batch[0].id, "reason": str(refused)})
            return
        for sample in batch:
            _measure_batch(work, probe, [sample])
        return
    probe.run(encoded)
    if work.settings.gradients:
        add_gradients(work.loaded, probe, batch, work.settings, work.sums)
    work.finish_batch(batch, encoded)


def _encode(work: _Measurement, batch: list[Sample]) -> Encoded:
    encoded = work.loaded.encode(batch)
    longest = getattr(work.loaded.model.config.get_text_config(), "max_position_embeddings", None)
    if longest is not None and max(encoded.lengths) > longest:
        raise SampleError(
            f"Sample {encoded.ids[encoded.lengths.index(max(encoded.lengths))]} has {max(encoded.lengths):,} tokens; "
            f"the model reads at most {longest:,}. Use a smaller picture or a shorter text."
        )
    return encoded


def peak_memory(device: torch.device) -> int:
    """Most memory that this process ever held, in bytes; on a GPU what torch held there."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
