"""Scores of the bundled run's kept samples under every signal, and their routes: `python -m sample_data.signals`.

The run's statistics hold the paper's signal alone, since each further one would add 4.7 MB. To look at, and to see
how far the signals agree, the scores of the sixteen kept samples are enough: they, and which experts their tokens used,
are taken from a calibration of these samples that counts frequencies only, and put beside the scores that are there,
which must come out the same.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mode_core.calibration import SIGNALS, CalibrationSettings, calibrate
from mode_core.models import load_model
from mode_core.runs.run import Run, TokenScores
from mode_core.runs.token_routes import TokenRoutes
from mode_core.samples import read_samples

HERE = Path(__file__).parent


def scores_of(kept: Sequence[TokenScores]) -> tuple[list[TokenScores], list[TokenRoutes]]:
    """The same samples of `calibration/`, each with the scores of all signals; and their routes.

    Raises:
        ValueError: scores that are there come out otherwise, so that they are another model's or of other samples.
    """
    ids = [one.sample for one in kept]
    samples = [sample for sample in read_samples(HERE / "calibration") if sample.id in ids]
    settings = CalibrationSettings(
        signals=tuple(SIGNALS), sensitivity=False, exemplars=0, token_scores_for=len(samples)
    )
    with tempfile.TemporaryDirectory() as folder:
        scored = Run.create(Path(folder) / "scored")
        calibrate(load_model(HERE / "model", device="cpu", dtype="float32"), samples, settings, run=scored)
        found, routes = Run.open(scored.path).token_scores(), Run.open(scored.path).token_routes()
    for before in kept:
        for signal, scores in before.scores.items():
            if not np.allclose(found[before.sample].scores[signal], scores, rtol=1e-3, atol=1e-6):
                raise ValueError(f"{signal} of the sample {before.sample} is not what the run holds; calibrate again.")
    return [found[name] for name in ids], [routes[name] for name in ids]


def main() -> None:
    """Put them into the bundled run."""
    run = Run.open(HERE / "run")
    records = [
        record | {"thumbnails": [Path(file).name for file in record["thumbnails"]]} for record in run.sample_records()
    ]
    run.write_samples(records, *scores_of(list(run.token_scores().values())))


if __name__ == "__main__":
    main()
