"""Measuring: batches of samples through the model, what its experts do summed, a broken batch told in words."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from mode_core.calibration.gradients import add_gradients
from mode_core.calibration.hessian import add_hessian_traces
from mode_core.calibration.measurement import Measurement
from mode_core.calibration.sensitivity import RoundedBank, stacked_bytes
from mode_core.calibration.sums import BankSums, Places
from mode_core.errors import CalibrationError
from mode_core.jobs import Cancel, Cancelled, ProgressHook, Reporter, check
from mode_core.models import PADDING, encode_checked
from mode_core.models.answering import own_answers
from mode_core.models.offloading import is_offloaded
from mode_core.models.soundness import check_logits
from mode_core.probing.probe import Probe
from mode_core.runs.run import Run
from mode_core.samples import Sample, SampleError
from mode_core.statistics import ExpertStatistics

ROUNDING = "rounding"  # scales of the rounded weights in a run's folder, until the run is done


def batches_of(samples: Sequence[Sample], size: int) -> list[list[Sample]]:
    """The samples that go through the model together. How they are cut does not depend on what was measured already,
    so that a continued run computes what an uninterrupted one would, to the last bit of every token."""
    return [list(samples[first : first + size]) for first in range(0, len(samples), size)]


def finish(work: Measurement) -> ExpertStatistics:
    """Write the run as done, and drop what only an interrupted one needs."""
    statistics = work.save("done")
    if work.run is not None:
        shutil.rmtree(work.run.path / ROUNDING, ignore_errors=True)
    return statistics


def measure(
    work: Measurement,
    batches: list[list[Sample]],
    progress: ProgressHook | None,
    cancel: Cancel | None,
    scales: Path | None = None,
    turn: int = 0,
) -> None:
    """Everything that is left of these batches; on `Cancelled`, what was measured is written first.

    `scales` is the folder for the scales of rounded weights, if not the run's own. Banks are rounded from number `turn`
    on, all around: processes that share the folder begin at different ones, and find there what the others made.
    """
    loaded, total = work.loaded, sum(map(len, batches))
    left = [work.left(batch) for batch in batches]
    before = total - sum(map(len, left))
    reporter = Reporter(progress, len(loaded.banks) + total, cancel, before)
    with _place_for_scales(work, scales) as folder:
        banks, places = list(loaded.banks.values()), Places(work.settings.signals)
        stack = stacked_bytes(banks, work.settings) <= work.settings.stack_bytes
        for bank in banks[turn:] + banks[:turn]:
            rounded = RoundedBank.of(bank, work.settings, stack, loaded.revision, folder, lambda: check(cancel))
            work.sums[bank.name] = BankSums(bank, rounded, work.settings, places)
            reporter.step(f"rounding the experts of layer {bank.layer}")
        work.set_room_aside()
        try:
            watching = nullcontext() if work.energies is None else work.energies.watching()
            with watching, work.gallery.keeper.watching, Probe(loaded, work.settings.signals, work.observe) as probe:
                for batch in filter(None, left):
                    before += len(batch)
                    _measure_or_explain(work, probe, batch)
                    if work.due():
                        work.save("half done")
                    reporter.step(f"sample {before} of {total}", len(batch))
        except Cancelled:
            if work.measured:
                work.save("half done")
            raise


@contextmanager
def _place_for_scales(work: Measurement, given: Path | None) -> Iterator[Path | None]:
    """The folder for the scales: in the run; a temporary one where memory is short; else None, which is memory."""
    if given is not None or work.run is not None:
        yield given or work.run.path / ROUNDING
    elif is_offloaded(work.loaded.model):
        with tempfile.TemporaryDirectory(prefix="mode-rounding-") as folder:
            yield Path(folder)
    else:
        yield None


def _measure_or_explain(work: Measurement, probe: Probe, batch: list[Sample]) -> None:
    """Measure one batch; a model that breaks down over it is told in words, with what is kept."""
    try:
        _measure_batch(work, probe, batch)
    except (RuntimeError, MemoryError) as failure:
        reason = str(failure).strip().splitlines()[0] if str(failure).strip() else type(failure).__name__
        names = ", ".join(sample.id for sample in batch[:3])
        raise CalibrationError(
            f"The model broke down over the samples {names} ({reason}). {_kept(work, batch)} "
            "Where memory was short, take smaller batches or a memory limit."
        ) from failure


def _kept(work: Measurement, failed: list[Sample]) -> str:
    """Write what was measured before the batch that failed, and say so."""
    if work.run is None:
        return "Nothing was kept, since there is no run."
    # what gradients and input energies add cannot be taken back: the last checkpoint stays
    kept = work.settings.gradients or work.settings.hessian_probes or work.energies is not None
    if not kept:
        for sums in work.sums.values():
            sums.forget([sample.id for sample in failed])
        try:
            if work.done:
                work.save("half done")
        except (RuntimeError, MemoryError):  # what waited could not be summed either: the last checkpoint stays
            work.run = Run(work.run.path)
    count = work.run.info.get("samples", {}).get("measured", 0)
    return f"The run keeps the {count} samples measured before; continue with 'calibrate --resume'."


def _measure_batch(work: Measurement, probe: Probe, batch: list[Sample]) -> None:
    """Encode and run one batch; where it is refused, find out which samples are at fault."""
    try:
        encoded = encode_checked(work.loaded, batch)
        if most := work.settings.own_answers:
            encoded = encode_checked(work.loaded, own_answers(work.loaded, batch, most), answers=True)
    except SampleError as refused:
        if len(batch) == 1:
            if work.strict:
                raise CalibrationError(f"The sample {batch[0].id} is refused: {refused}") from None
            work.refused.append({"sample": batch[0].id, "reason": str(refused)})
            return
        for sample in batch:
            _measure_batch(work, probe, [sample])
        return
    if work.energies is not None:
        work.energies.begin_batch()
    output = probe.run(encoded)
    if work.energies is not None:
        work.energies.finish_batch()
    if not work.done:  # the first batch
        real = encoded.modality != PADDING
        check_logits(work.loaded, output.logits[:, -real.shape[1] :][real], encoded.inputs, encoded.ids)
    if work.settings.gradients:
        add_gradients(work.loaded, probe, batch, work.settings, work.sums)
    if work.settings.hessian_probes:
        add_hessian_traces(work.loaded, probe.configs, batch, work.settings, work.sums)
    work.finish_batch(batch, encoded)
