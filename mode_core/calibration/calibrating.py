"""The verb: a model and samples in, `ExpertStatistics` out, in one pass of the model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

from mode_core.calibration.distributed import World, calibrate_together
from mode_core.calibration.measurement import Measurement
from mode_core.calibration.measuring import batches_of, finish, measure
from mode_core.calibration.settings import CalibrationSettings
from mode_core.errors import CalibrationError
from mode_core.jobs import Cancel, ProgressHook
from mode_core.models import LoadedModel
from mode_core.quantization.model_lock import original
from mode_core.runs.run import Run
from mode_core.samples import Sample
from mode_core.statistics import ExpertStatistics


def calibrate(
    loaded: LoadedModel,
    samples: Sequence[Sample],
    settings: CalibrationSettings | None = None,
    run: Run | None = None,
    progress: ProgressHook | None = None,
    cancel: Cancel | None = None,
    strict: bool = False,
) -> ExpertStatistics:
    """Run the model once over the samples and sum what its experts do; with `run`, keep everything there.

    A sample that the model's processor refuses is listed with the reason under `refused` in run.json, behind those that
    could not be read (`errors` of a `SampleList`); the others are measured. `strict` ends at the first. What was
    measured is written to the run as often as the settings say, and when the work is stopped. A run that was
    interrupted, in whatever way, is continued: its samples are not measured again, and the numbers become those of a
    run that was not interrupted. Where nothing was measured when it ends in an error, the run is gone.

    Where torch.distributed is up, the processes share the samples, and all of them return the statistics of all
    samples; the run is written by the first process (see `distributed`).

    Memory: the model, its experts' rounded weights as `CalibrationSettings.stack_bytes` allows (beyond that, the
    scales, on disk where there is a run or the model is offloaded), the sums of `BankSums` four times, and one batch;
    none of it grows with the number of samples.

    Raises:
        CalibrationError: no samples, all refused (with `strict`: one), a family that the probe cannot see into, a run
            that measures something else, or a disk that is full. BusyError: another process measures into the run.
        QuantizationError: the model is quantized now.
        Cancelled: stopped on request; the run is then "half done" with the samples measured so far.
    """
    settings, world = settings or CalibrationSettings(), World.now()
    _check(samples)
    alone = nullcontext() if run is None or world.rank else run.measuring()
    with original(loaded), alone:
        if world.size > 1:
            return calibrate_together(world, loaded, samples, settings, run, progress, cancel, strict)
        work = Measurement.begin(loaded, settings, run, samples)
        work.strict = strict
        batches = batches_of(samples, settings.batch_size)
        measure(work, batches, progress, cancel)
        if not work.measured:
            raise CalibrationError(f"All {len(samples)} samples were refused. The first: {work.refused[0]['reason']}")
        return finish(work)


def _check(samples: Sequence[Sample]) -> None:
    if not samples:
        raise CalibrationError("There are no samples to calibrate with; give at least one picture with a question.")
    seen: set[str] = set()
    if twice := [s.id for s in samples if s.id in seen or seen.add(s.id)]:
        raise CalibrationError(f"The sample {twice[0]} is given twice; drop one, or give it another id.")
