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


# Figures of sample_data/run/evidence/shrinkage and /no_gradients, which a test holds them against: KL, mean of five
# calibrations.
BY_EVIDENCE = (
    Recommendation(
        "mode_soft_fisher",
        "model",
        0.5,
        "Best on the bundled model, with questions unlike those of calibration: KL of 0.023 at 2.5 bits against 0.067 "
        "for uniform bits of the same size, and of 0.011 against 0.016 at 3 bits.",
    ),
    Recommendation(
        "mode",
        "bank",
        0.85,
        "Without gradients no estimate was surely better on the bundled model than uniform bits of the same size at 3, "
        "2.5 and 2 bits, this one not told apart from them: KL of 0.072 at 2.5 bits against 0.067, of 0.018 against "
        "0.016 at 3 bits. With gradients it is 0.023 and 0.011.",
    ),
)


def recommended(statistics: ExpertStatistics, checked: Checked | None = None) -> Recommendation:
    """The estimate to begin with: the choice of a check of this model where there is one that these statistics can
    serve, else the first of `BY_EVIDENCE` that they can serve."""
    choices = ((checked.choice,) if checked else ()) + BY_EVIDENCE
    return next(choice for choice in choices if METHODS[choice.method].available(statistics))
