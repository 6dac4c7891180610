"""Calibration: (model, samples) → statistics; redundancy and sensitivity in one pass, resumable and mergeable.

What is asked for is told without torch: names that need it are fetched on first use.
"""

from typing import TYPE_CHECKING

from mode_core.calibration.settings import CalibrationSettings, LogitKLSettings
from mode_core.errors import CalibrationError
from mode_core.on_first_use import on_first_use
from mode_core.probing.signals import SIGNALS

if TYPE_CHECKING:
    from mode_core.calibration.calibrating import calibrate
    from mode_core.calibration.logit_kl import LogitKL, logit_kl_cost, measure_logit_kl
    from mode_core.probing.redundancy import redundancy_bins

__getattr__ = on_first_use(__name__, __file__)
