"""How far costs are to be drawn to their bank's mean for the damage read off them to come true: fitted to allocations.

Undrawn costs promise too much of the allocations that were solved with them, costs drawn half-way too little where the
estimate is good. A check measures a dozen allocations anyway, of several estimates and shrinkages; the shrinkage whose
predictions miss their KL least (in the mean square of the logarithm) is the yardstick, and what it still misses by
widens every interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mode_core.importance import Recommendation
from mode_core.prediction.anchor import Anchor
from mode_core.prediction.predicting import LEAST, Predictor
from mode_core.statistics import ExpertStatistics

STEPS = 20  # of the shrinkages tried, 0 to 1
FEWEST = 4  # measured allocations; fewer tell nothing

Measured = tuple[Mapping[str, np.ndarray], Mapping[str, float]]  # bits by bank, KL by kind of sample


def fitted(statistics: ExpertStatistics, method: str, anchor: Anchor, measured: Sequence[Measured]) -> Anchor:
    """The anchor with `drawn` and `spread` of these allocations by `method`'s costs; unchanged where they are few.

    Cost: `STEPS` cost tables with all samples and without each fold.
    """
    if len(measured) < FEWEST:
        return anchor
    missed, asked = {}, Recommendation(method, "", 0.0, "")
    for shrinkage in np.linspace(0.0, 1.0, STEPS + 1).round(3).tolist():
        predict = Predictor(statistics, replace(anchor, drawn=shrinkage), asked).predict
        logs = [
            np.log(max(predict(bits).kl[kind].value, LEAST) / max(true, LEAST))
            for bits, kl in measured
            for kind, true in kl.items()
        ]
        missed[shrinkage] = float(np.sqrt(np.mean(np.square(logs))))
    drawn = min(missed, key=missed.__getitem__)
    return replace(anchor, drawn=drawn, spread=missed[drawn])
