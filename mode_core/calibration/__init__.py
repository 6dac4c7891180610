"""Calibration: (model, samples) → statistics; redundancy and sensitivity in one pass, resumable and mergeable."""

from mode_core.calibration.calibrating import calibrate
from mode_core.calibration.logit_kl import LogitKL, logit_kl_cost, measure_logit_kl
from mode_core.calibration.settings import CalibrationSettings, LogitKLSettings
from mode_core.errors import CalibrationError
from mode_core.probing.redundancy import redundancy_bins
from mode_core.probing.signals import SIGNALS
