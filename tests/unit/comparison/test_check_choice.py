"""What a check chooses: the best measured, unless the evidence's own cannot be told apart from it."""

import numpy as np
import pytest

from mode_core.comparison.bootstrap import Resamples
from mode_core.comparison.check_choice import chosen
from mode_core.prediction import Ranking, Trial

SAMPLES, USUAL = 64, ("mode_soft_fisher", "model", 0.5)
EACH = np.random.default_rng(5).uniform(0.5, 1.5, SAMPLES)


def tried(levels: dict[tuple[str, str, float], np.ndarray | float]) -> list[tuple[Trial, np.ndarray]]:
    """Trials at one budget, of KL `level` times the same spread over samples."""
    return [
        (Trial(*asked, 3.0, {"all": float((level * EACH).mean())}, float((level * EACH).mean()), 0, 0), level * EACH)
        for asked, level in levels.items()
    ]


def choice(levels):
    redrawn = Resamples(["text"] * SAMPLES, 1, 500, 0)
    rankings = [Ranking("mode_soft_fisher", "all", 0.7, 0.4, 0.8)]
    return chosen(tried(levels), rankings, redrawn, np.ones(SAMPLES, bool))


def test_near_relatives_are_left_to_the_evidence_and_surely_better_ones_are_taken():
    noise = np.random.default_rng(6).uniform(0.5, 1.5, SAMPLES)
    near = choice(
        {("uniform", "bank", 0.0): 1.0, ("soft_fisher", "model", 0.5): 0.48 * noise / noise.mean(), USUAL: 0.501}
    )
    assert (near.method, near.scope, near.shrinkage) == USUAL
    assert near.why.startswith("Not told apart from the best measured on this model, 64 samples: KL 0.5")
    assert near.why.endswith("it ranks groups of experts at 0.70 [0.40, 0.80].")
    sure = choice({("uniform", "bank", 0.0): 1.0, ("soft_fisher", "model", 0.5): 0.4, USUAL: 0.5})
    assert sure.method == "soft_fisher" and sure.why.startswith("Best measured on this model")


@pytest.mark.parametrize("best", ["uniform", "frequency"])
def test_without_the_evidences_own_the_best_is_taken(best):
    levels = {("uniform", "bank", 0.0): 1.0, ("frequency", "bank", 0.0): 0.9 if best == "frequency" else 1.1}
    assert choice(levels).method == best
