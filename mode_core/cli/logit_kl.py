"""`calibrate --logit-kl`: what it would cost is told first, and nothing is run before someone has agreed to that."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mode_core.errors import SettingsError
from mode_core.modalities import KEY_RATIO

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
        "--logit-kl-key-ratio",
        type=float,
        default=KEY_RATIO,
        metavar="RATIO",
        help=f"share of key tokens (default: {KEY_RATIO:.2f})",
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
        SettingsError: it was asked for, but nobody agreed to what it costs; the text says the cost.
    """
    if not options.logit_kl:
        return None
    from mode_core.calibration import LogitKLSettings, logit_kl_cost

    if options.logit_kl_samples < 1:
        raise SettingsError(f"--logit-kl-samples must be at least 1; got {options.logit_kl_samples}.")
    settings = LogitKLSettings(
        key_ratio=options.logit_kl_key_ratio, signal=calibration.signals[0], positions=options.logit_kl_positions
    )
    cost = logit_kl_cost(loaded, samples[: options.logit_kl_samples], calibration.bits, settings)
    limit = float("inf") if options.yes else options.logit_kl_limit or 0.0
    if cost.seconds > limit:
        raise SettingsError(
            f"The KL of the answer takes {cost}. Add --yes to go on, or --logit-kl-limit {cost.seconds * 1.5:.0f} to "
            f"allow it by time; --logit-kl-samples {max(1, options.logit_kl_samples // 4)} takes a quarter."
        )
    return settings
