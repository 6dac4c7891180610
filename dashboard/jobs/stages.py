"""Progress of a job of several pieces as one bar that never goes back."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from mode_core.jobs import Progress, ProgressHook


class Stages:
    """Several pieces of work on one bar: `stages.hook("quantizing")` begins the next piece.

    The first piece is loading, which says nothing of the others' pace. Weights say how long these are expected to take
    beside each other; what is left is reckoned from how long they took so far, each by those of its own weight first.
    So a bar that began with guesses ends with measurements; it is the share of the whole time, and never goes back.
    """

    STEPS = 1000

    def __init__(self, hook: ProgressHook, weights: Sequence[float]):
        self._hook, self._weights = hook, weights
        self._begun = self._piece_begun = time.monotonic()
        self._took: dict[int, float] = {}  # seconds of every finished piece but the first
        self._piece, self._done = -1, 0.0

    def hook(self, title: str) -> ProgressHook:
        """Begin the next piece, and get the hook that it reports to."""
        now = time.monotonic()
        if self._piece > 0:
            self._took[self._piece] = now - self._piece_begun
        self._piece, self._piece_begun = self._piece + 1, now
        self._tell(0.0, title)

        def report(progress: Progress) -> None:
            self._tell(progress.fraction, f"{title}: {progress.what}")

        return report

    def _tell(self, fraction: float, what: str) -> None:
        now, weights = time.monotonic(), self._weights
        elapsed, spent = now - self._begun, now - self._piece_begun
        known = self._took | ({self._piece: spent / fraction} if fraction > 0 and self._piece > 0 else {})
        left = None
        if known:
            expected = [_expected(known, weights, place) for place in range(self._piece, len(weights))]
            left = max(0.0, expected[0] - spent) + sum(expected[1:])
            if weights[self._piece] in {weights[place] for place in known}:  # else nothing like it was timed yet
                self._done = max(self._done, elapsed / (elapsed + left) if elapsed else 0.0)
        self._hook(Progress(round(self.STEPS * self._done), self.STEPS, what, elapsed, left))


def _expected(known: Mapping[int, float], weights: Sequence[float], place: int) -> float:
    """Seconds of a piece: its own, else by the mean pace of those of its weight, else of all that are known."""
    if place in known:
        return known[place]
    alike = [other for other in known if weights[other] == weights[place]] or list(known)
    return weights[place] * sum(known[other] for other in alike) / sum(weights[other] for other in alike)
