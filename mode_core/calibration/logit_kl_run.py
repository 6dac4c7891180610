"""The KL of the answer measured into a run: taken up again where it was stopped, kept whatever happens."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from mode_core.calibration.logit_kl import LogitKL, LogitKLSettings, measure_logit_kl, without_kl
from mode_core.calibration.settings import CalibrationSettings
from mode_core.jobs import Cancel, Cancelled, ProgressHook
from mode_core.models import LoadedModel
from mode_core.runs.run import Run
from mode_core.samples import Sample


def add_logit_kl(
    run: Run,
    loaded: LoadedModel,
    samples: Sequence[Sample],
    calibration: CalibrationSettings,
    settings: LogitKLSettings,
    progress: ProgressHook | None = None,
    cancel: Cancel | None = None,
) -> dict[str, Any]:
    """Measure the KL of those samples that calibration measured, and keep it with the run's statistics; says what was.

    Where the run holds KL of the same settings already, only what is missing is measured.

    Raises:
        Cancelled: stopped on request; the batches that were whole are kept.
        CalibrationError, SampleError: as `measure_logit_kl`.
    """
    with run.locked():
        return _add_logit_kl(run, loaded, samples, calibration, settings, progress, cancel)


def _add_logit_kl(
    run: Run,
    loaded: LoadedModel,
    samples: Sequence[Sample],
    calibration: CalibrationSettings,
    settings: LogitKLSettings,
    progress: ProgressHook | None,
    cancel: Cancel | None,
) -> dict[str, Any]:
    known, began = set(run.statistics.samples), time.monotonic()
    chosen = [sample for sample in samples if sample.id in known]
    _, kept = without_kl(run.statistics)
    if kept is not None and kept.settings.measured_with() == settings.measured_with():
        kept.samples = list(run.info["logit_kl"]["ids"])
    else:
        kept = LogitKL.empty(loaded, calibration.bits, settings)
    try:
        measure_logit_kl(loaded, chosen, calibration, settings, progress, cancel, kept)
    except Cancelled:
        if kept.samples:
            _keep(run, kept, began)
        raise
    return _keep(run, kept, began)


def _keep(run: Run, kept: LogitKL, began: float) -> dict[str, Any]:
    told = {
        "samples": len(kept.samples),
        "passes": kept.passes,
        "seconds": round(time.monotonic() - began, 3),
        **kept.settings.measured_with(),
    }
    run.write_statistics(kept.added_to(run.statistics), logit_kl=told | {"ids": kept.samples})
    return told
