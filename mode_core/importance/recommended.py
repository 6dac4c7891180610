"""Which estimate to begin with: by what was measured on this model, else by the evidence of the bundled one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mode_core.importance.methods import METHODS
from mode_core.statistics import ExpertStatistics


@dataclass(frozen=True)
class Recommendation:
    """An estimate, the scope of its budget, how far costs are drawn to their bank's mean, and why, in a sentence."""

    method: str
    scope: str
    shrinkage: float
    why: str

    @property
    def settings(self) -> dict[str, object]:
        """What it says of an `AllocationRequest`: `replace(request, **recommendation.settings)`."""
        return {"method": self.method, "scope": self.scope, "shrinkage": self.shrinkage}


class Checked(Protocol):
    """What `python -m mode_core check` found out about one model (`mode_core.prediction.Check`)."""

    @property
    def choice(self) -> Recommendation: ...


# Figures of sample_data/run/evidence/shrinkage, held against it by a test: KL on text, mean of five calibrations.
BY_EVIDENCE = (
    Recommendation(
        "mode_soft_fisher",
        "model",
        0.5,
        "Best on the bundled model, with questions unlike those of calibration: KL on text of 0.019 at 2.5 bits "
        "against 0.099 for uniform bits of the same size, and of 0.008 against 0.013 at 3 bits.",
    ),
    Recommendation(
        "mode",
        "bank",
        0.85,
        "Best on the bundled model of those that need no gradients: KL on text of 0.080 at 2.5 bits against 0.099 for "
        "uniform bits of the same size, and as uniform at 3 bits. With gradients it is 0.019 and 0.008.",
    ),
)


def recommended(statistics: ExpertStatistics, checked: Checked | None = None) -> Recommendation:
    """The estimate to begin with: the choice of a check of this model where there is one that these statistics can
    serve, else the first of `BY_EVIDENCE` that they can serve."""
    choices = ((checked.choice,) if checked else ()) + BY_EVIDENCE
    return next(choice for choice in choices if METHODS[choice.method].available(statistics))
