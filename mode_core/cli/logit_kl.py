"""`calibrate --logit-kl`: what it would cost is told first, and nothing is run before someone has agreed to that."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mode_core.calibration.settings import LogitKLSettings
from mode_core.cli.arguments import add_settings
from mode_core.errors import SettingsError

if TYPE_CHECKING:
    from mode_core.models import LoadedModel
    from mode_core.samples import Sample

SAMPLES = 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the verb calibrate that belong to the KL of the answer."""
    group = add_settings(parser, LogitKLSettings(), "the KL of the answer (for the methods mode_logit_kl and logit_kl)")
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


def check_agreed(
    options: argparse.Namespace,
    loaded: LoadedModel,
    samples: Sequence[Sample],
    bits: tuple[int, ...],
    settings: LogitKLSettings,
) -> None:
    """Refuse to measure what nobody has agreed to pay.

    Raises:
        SettingsError: the text says the cost, and what allows it.
    """
    from mode_core.calibration import logit_kl_cost

    cost = logit_kl_cost(loaded, samples[: options.logit_kl_samples], bits, settings)
    limit = float("inf") if options.yes else options.logit_kl_limit or 0.0
    if cost.seconds > limit:
        raise SettingsError(
            f"The KL of the answer takes {cost}. Add --yes to go on, or --logit-kl-limit {cost.seconds * 1.5:.0f} to "
            f"allow it by time; --logit-kl-samples {max(1, options.logit_kl_samples // 4)} takes a quarter."
        )
