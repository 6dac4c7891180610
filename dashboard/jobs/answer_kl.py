"""The KL of the answer as a person asks for it on the Calibrate page: of what, and how long it may take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mode_core.modalities import KEY_RATIO

if TYPE_CHECKING:
    from mode_core.calibration import CalibrationSettings, LogitKLSettings
    from mode_core.jobs import Cancel, ProgressHook
    from mode_core.models import LoadedModel
    from mode_core.run import Run
    from mode_core.samples import Sample


@dataclass(frozen=True)
class AnswerKL:
    """KL of the first `samples`, with this share of key tokens, if it is estimated to take at most `seconds`."""

    samples: int = 32
    key_ratio: float = KEY_RATIO
    seconds: float = 3600.0

    def settings(self, calibration: CalibrationSettings) -> LogitKLSettings:
        """The library's own, with the signal that calibration names first."""
        from mode_core.calibration import LogitKLSettings

        return LogitKLSettings(key_ratio=self.key_ratio, signal=calibration.signals[0])

    def passes(self, source: str, samples: int, calibration: CalibrationSettings, trusted: bool = False) -> int:
        """Forward passes at most, of so many samples given, from the model's configuration alone.

        Raises:
            ModelError, OSError, ValueError: no configuration on this machine, or a family without expert banks.
        """
        from dashboard.jobs.forecast import outlined
        from mode_core.calibration.logit_kl import logit_kl_passes

        banks, _ = outlined(source, trusted)
        batch = self.settings(calibration).batch_size
        return logit_kl_passes(banks, min(samples, self.samples), len(calibration.bits), batch)

    def check_cost(self, loaded: LoadedModel, samples: Sequence[Sample], calibration: CalibrationSettings) -> None:
        """Time one pass, and refuse before anything is measured where all of them would take too long.

        Raises:
            CalibrationError: with the cost, and what to do.
        """
        from mode_core.calibration import CalibrationError, logit_kl_cost

        cost = logit_kl_cost(loaded, samples[: self.samples], calibration.bits, self.settings(calibration))
        if cost.seconds > self.seconds:
            raise CalibrationError(
                f"The KL of the answer would take {cost}; {self.seconds / 60:g} minutes were allowed. Nothing was "
                "measured. Allow more, take fewer samples or widths for it, or leave it out."
            )

    def measure(
        self,
        run: Run,
        loaded: LoadedModel,
        samples: Sequence[Sample],
        calibration: CalibrationSettings,
        progress: ProgressHook,
        cancel: Cancel,
    ) -> dict[str, Any]:
        """Measure it into a calibrated run; see `add_logit_kl`."""
        from mode_core.calibration.logit_kl import add_logit_kl

        return add_logit_kl(
            run, loaded, samples[: self.samples], calibration, self.settings(calibration), progress, cancel
        )
