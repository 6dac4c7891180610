"""Values of options that are refused before any work, in every verb: nothing is bent into what would do."""

from __future__ import annotations

import argparse
import math

from mode_core.errors import SettingsError
from mode_core.runs.run import check_name

AT_LEAST = {  # whole numbers, and the least that makes sense
    **dict.fromkeys(("limit", "quantizer_limit", "batch_size", "logit_kl_samples", "shard_mb"), 1),
    **dict.fromkeys(("draws", "attention_bits", "shared_bits"), 1),
    **dict.fromkeys(("show", "uniform", "logit_kl_limit", "seed", "draw_seed"), 0),
}
MORE_THAN_NOTHING = ("average_bits", "budget_mb", "model_mb", "key_ratio")


def check_options(options: argparse.Namespace) -> None:
    """Refuse what no verb could do anything with.

    Raises:
        SettingsError: an option that is empty, no finite number, or too small. RunError: a name that is none.
    """
    for name, given in vars(options).items():
        option = f"--{name.replace('_', '-')}"
        for value in given if isinstance(given, list) else [given]:
            if isinstance(value, str) and not value.strip():
                raise SettingsError(f"{option} is empty; give it a value, or leave it out.")
            if isinstance(value, float) and not math.isfinite(value):
                raise SettingsError(f"{option} must be a number; got {value}.")
            if isinstance(value, (int, float)) and name in AT_LEAST and value < AT_LEAST[name]:
                raise SettingsError(f"{option} must be at least {AT_LEAST[name]}; got {value}.")
            if isinstance(value, (int, float)) and name in MORE_THAN_NOTHING and value <= 0:
                raise SettingsError(f"{option} must be more than 0; got {value:g}.")
    if getattr(options, "group_size", None) == 0:
        raise SettingsError("--group-size must be at least 1, or -1 for the whole row; got 0.")
    if getattr(options, "name", None) is not None:
        check_name(options.name)
