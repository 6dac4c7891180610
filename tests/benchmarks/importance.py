"""How fast a new key ratio or method is answered: `python -m tests.benchmarks.importance`.

Synthetic statistics of 48 banks × 128 experts × 3 widths × 100 bins, seeded. "first" includes adding up the folds
and cumulating the bins, once per statistics; "another" is what a slider waits for.
"""

from __future__ import annotations

import statistics
import time

import numpy as np

from mode_core.importance import METHODS, cost_table, frequencies
from tests.synthetic import synthetic_statistics


def timed(work, values) -> tuple[float, float]:
    """Milliseconds of the first call, and the median of the others."""
    seconds = []
    for value in values:
        begun = time.perf_counter()
        work(value)
        seconds.append(1e3 * (time.perf_counter() - begun))
    return seconds[0], statistics.median(seconds[1:])


def main() -> None:
    ratios = np.linspace(0.05, 0.95, 19)
    print(f"{'what':<32} {'first':>10}    {'another ratio':>14}")
    made = synthetic_statistics(extras=("gradients", "hessian"))
    first, another = timed(lambda ratio: frequencies(made, ratio), ratios)
    print(f"{'frequencies':<32} {first:8.2f} ms  {another:12.2f} ms")
    for method in METHODS:
        if METHODS[method].needs == "logit_kl":
            continue  # measured at one key ratio: nothing to drag
        first, another = timed(lambda ratio: cost_table(made, method, ratio), ratios)  # noqa: B023
        print(f"{'cost_table ' + method:<32} {first:8.2f} ms  {another:12.2f} ms", flush=True)


if __name__ == "__main__":
    main()
