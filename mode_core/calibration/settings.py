"""What a calibration measures, and the KL of the answer: frozen objects that check themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mode_core.errors import SettingsError
from mode_core.modalities import KEY_RATIO, SIGNAL
from mode_core.probing.signals import SIGNALS
from mode_core.quantization.widths import DROPPED, PER_CHANNEL, WIDTHS
from mode_core.statistics import BINS

MEASURED = (DROPPED, *WIDTHS)  # 0 bits: what it costs to leave an expert out
MAX_EXEMPLARS = 64  # of each modality per expert
POSITIONS = ("last", "answers")  # where the KL of the answer is taken


@dataclass(frozen=True)
class CalibrationSettings:
    """Settings of one calibration. The defaults are the paper's, with 1 bit measured as well.

    `bits`: widths whose damage is measured; 0 measures what leaving an expert out costs. `signals`: what ranks the
    vision tokens of a sample, names of `mode_core.probing.signals.SIGNALS`. `group_size` (input channels per scale,
    −1 = whole row) and `symmetric` say how weights are rounded. `sensitivity` False counts frequencies only.
    `batch_size` samples go through the model together. `token_scores_for` samples are kept with their pictures and
    scores, to be looked at; `exemplars` tokens of each modality are kept per expert, those it was chosen for most
    strongly.
    `gradients` adds the backward passes that fisher and its relatives need: every sample is answered by the model
    itself (drawn by `seed`, at most `gradient_tokens` tokens), and `gradient_draws` random projections are averaged,
    plain and softened by `gradient_temperature`. `hessian_probes` random vectors a sample estimate the Hessian's trace
    (0: none). Nothing else in calibration is random.
    `imatrix` sums what enters every matrix of the decoder (see `imatrix`), vision tokens ranked by the first of
    `signals` and parted at `imatrix_key_ratio`, which is settled then.
    What was measured is written to the run after `checkpoint_samples` samples or `checkpoint_seconds` seconds,
    whichever comes first. Rounded weights are kept in memory where those of all banks take at most `stack_bytes`
    (float32); otherwise they are made again from their scales: slower for small models, the same in numbers.

    Raises:
        SettingsError: the first setting that makes no sense, with what is allowed.
    """

    bits: tuple[int, ...] = (1, 2, 3, 4)
    signals: tuple[str, ...] = (SIGNAL,)
    group_size: int = 128
    symmetric: bool = True
    sensitivity: bool = True
    batch_size: int = 4
    token_scores_for: int = 16
    exemplars: int = 8
    seed: int = 0
    gradients: bool = False
    gradient_tokens: int = 32
    gradient_draws: int = 1
    gradient_temperature: float = 2.0
    hessian_probes: int = 0
    imatrix: bool = False
    imatrix_key_ratio: float = 0.20
    checkpoint_samples: int = 64
    checkpoint_seconds: float = 60.0
    stack_bytes: int = 1 << 30

    def __post_init__(self) -> None:
        object.__setattr__(self, "bits", tuple(self.bits))
        object.__setattr__(self, "signals", tuple(self.signals))
        if not self.bits or list(self.bits) != sorted(set(self.bits)) or not set(self.bits) <= set(MEASURED):
            raise SettingsError(f"bits must be different widths of {MEASURED} in rising order; got {self.bits}.")
        if not self.signals or len(set(self.signals)) != len(self.signals) or not set(self.signals) <= set(SIGNALS):
            raise SettingsError(f"signals must be different names of {', '.join(SIGNALS)}; got {self.signals}.")
        if self.group_size != PER_CHANNEL and self.group_size < 1:
            raise SettingsError(f"group_size must be at least 1, or -1 for the whole row; got {self.group_size}.")
        if self.batch_size < 1:
            raise SettingsError(f"batch_size must be at least 1; got {self.batch_size}.")
        if self.token_scores_for < 0:
            raise SettingsError(f"token_scores_for must be 0 or more samples; got {self.token_scores_for}.")
        if not 0 <= self.exemplars <= MAX_EXEMPLARS:
            raise SettingsError(f"exemplars must be 0 to {MAX_EXEMPLARS} tokens per expert; got {self.exemplars}.")
        if self.gradient_tokens < 1 or self.gradient_draws < 1:
            raise SettingsError(
                "gradient_tokens and gradient_draws must be at least 1; "
                f"got {self.gradient_tokens} and {self.gradient_draws}."
            )
        if not 1 <= self.gradient_temperature < math.inf:
            raise SettingsError(f"gradient_temperature softens, so at least 1; got {self.gradient_temperature}.")
        if self.gradients and not self.sensitivity:
            raise SettingsError("gradients weigh the damage of rounding; leave sensitivity on, or gradients off.")
        if not 0 < self.imatrix_key_ratio <= 1:
            raise SettingsError(f"imatrix_key_ratio must lie above 0 and at most at 1; got {self.imatrix_key_ratio}.")
        if self.hessian_probes < 0:
            raise SettingsError(f"hessian_probes must be 0 (none) or more; got {self.hessian_probes}.")
        if self.checkpoint_samples < 1 or not 0 <= self.checkpoint_seconds < math.inf:
            raise SettingsError(
                "checkpoint_samples must be at least 1 and checkpoint_seconds 0 or more; "
                f"got {self.checkpoint_samples} and {self.checkpoint_seconds}."
            )
        if self.stack_bytes < 0:
            raise SettingsError(f"stack_bytes must be 0 or more bytes; got {self.stack_bytes}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"bits": list(self.bits), "signals": list(self.signals)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CalibrationSettings:
        """Back from `to_dict`."""
        return cls(**values)

    def measured_with(self) -> dict[str, Any]:
        """What must agree for two statistics to be added; batches, checkpoints and memory change nothing."""
        return {
            "bits": list(self.bits),
            "signals": list(self.signals),
            "group_size": self.group_size,
            "symmetric": self.symmetric,
            "sensitivity": self.sensitivity,
            "quantizer": "rtn",
            **self._drawn_with(),
        }

    @property
    def extras(self) -> tuple[str, ...]:
        """What is measured beyond the usual: names of `mode_core.statistics.EXTRAS`."""
        return ("gradients",) * self.gradients + ("hessian",) * (self.hessian_probes > 0)

    def _drawn_with(self) -> dict[str, Any]:
        """How answers were drawn, where they were; absent otherwise, so that older statistics still add up."""
        drawn: dict[str, Any] = {}
        if self.extras:
            drawn |= {"gradients": self.gradients, "gradient_tokens": self.gradient_tokens, "seed": self.seed}
            drawn |= {"gradient_draws": self.gradient_draws, "gradient_temperature": self.gradient_temperature}
            drawn |= {"hessian_probes": self.hessian_probes}
        return drawn


@dataclass(frozen=True)
class LogitKLSettings:
    """What is measured: which vision tokens are key, at which positions KL is taken, and the batch.

    Raises:
        SettingsError: a setting out of range, with what is allowed.
    """

    key_ratio: float = KEY_RATIO
    signal: str = SIGNAL
    positions: str = "last"
    batch_size: int = 8

    def __post_init__(self) -> None:
        if self.positions not in POSITIONS:
            raise SettingsError(f"positions must be one of {', '.join(POSITIONS)}; got {self.positions!r}.")
        if not 0 < self.key_ratio <= 1 or round(BINS * self.key_ratio) < 1:
            raise SettingsError(f"key_ratio must lie in (0, 1], in whole per cents; got {self.key_ratio!r}.")
        if self.batch_size < 1:
            raise SettingsError(f"batch_size must be at least 1; got {self.batch_size}.")

    def measured_with(self) -> dict[str, Any]:
        """What must agree for two measurements to be added."""
        return {"key_ratio": float(self.key_ratio), "signal": self.signal, "positions": self.positions}
