"""`calibrate --logit-kl`: what it would cost is told first, and nothing is run before someone has agreed to that."""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mode_core.jobs import Cancelled, ProgressHook
from mode_core.run import Run

if TYPE_CHECKING:
    from mode_core.calibration import CalibrationSettings
    from mode_core.models import LoadedModel
    from mode_core.samples import Sample

SAMPLES = 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb calibrate that belong to the KL of the answer."""
    group = parser.add_argument_group("the KL of the answer (for the methods mode_logit_kl and logit_kl)")
    group.add_argument(
        "--logit-kl",
        action="store_true",
        help="measure it: for every expert, width and modality a forward pass per batch; says the cost and stops "
        "unless --yes or --logit-kl-limit allows it",
    )
    group.add_argument("--yes", action="store_true", help="do it whatever it costs")
    group.add_argument("--logit-kl-limit", type=float, metavar="SECONDS", help="do it if it is estimated to take less")
    group.add_argument(
        "--logit-kl-samples",
        type=int,
        default=SAMPLES,
        metavar="N",
        help=f"of the first N samples (default: {SAMPLES})",
    )
    group.add_argument(
        "--logit-kl-key-ratio", type=float, default=0.20, metavar="RATIO", help="share of key tokens (default: 0.20)"
    )
    group.add_argument(
        "--logit-kl-positions",
        default="last",
        help="last (position of the prompt, default) or answers (all positions of the reference answer)",
    )


def agreed(
    options: argparse.Namespace, loaded: LoadedModel, samples: Sequence[Sample], calibration: CalibrationSettings
) -> Any:
    """The settings to measure with; None where KL was not asked for.

    Raises:
        ValueError: it was asked for, but nobody agreed to what it costs; the text says the cost.
    """
    if not options.logit_kl:
        return None
    from mode_core.calibration.logit_kl import LogitKLSettings, logit_kl_cost

    if options.logit_kl_samples < 1:
        raise ValueError(f"--logit-kl-samples must be at least 1; got {options.logit_kl_samples}.")
    settings = LogitKLSettings(
        key_ratio=options.logit_kl_key_ratio, signal=calibration.signals[0], positions=options.logit_kl_positions
    )
    cost = logit_kl_cost(loaded, samples[: options.logit_kl_samples], calibration.bits, settings)
    limit = float("inf") if options.yes else options.logit_kl_limit or 0.0
    if cost.seconds > limit:
        raise ValueError(
            f"The KL of the answer takes {cost}. Add --yes to go on, or --logit-kl-limit {cost.seconds * 1.5:.0f} to "
            f"allow it by time; --logit-kl-samples {max(1, options.logit_kl_samples // 4)} takes a quarter."
        )
    return settings


def add_to_run(
    options: argparse.Namespace,
    run: Run,
    loaded: LoadedModel,
    samples: Sequence[Sample],
    calibration: CalibrationSettings,
    settings: Any,
    progress: ProgressHook,
    cancel: threading.Event,
) -> dict[str, object]:
    """Measure the KL of the samples that calibration measured, and keep it with the run's statistics.

    Where the run holds KL of the same settings already, only what is missing is measured.

    Raises:
        Cancelled: stopped on request; the batches that were whole are kept.
    """
    from mode_core.calibration.logit_kl import LogitKL, measure_logit_kl, without_kl

    known, began = set(run.statistics.samples), time.monotonic()
    chosen = [sample for sample in samples[: options.logit_kl_samples] if sample.id in known]
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


def _keep(run: Run, kept: Any, began: float) -> dict[str, object]:
    told = {
        "samples": len(kept.samples),
        "passes": kept.passes,
        "seconds": round(time.monotonic() - began, 3),
        **kept.settings.measured_with(),
    }
    run.write_statistics(kept.added_to(run.statistics), logit_kl=told | {"ids": kept.samples})
    return told
