"""What one step of each held slider of Budget costs in the server: `python -m tests.benchmarks.held_steps`.

A synthetic run of 48 banks × 128 experts, without a browser: the page is drawn once, then every step sets the choice
and asks for the answer that would be sent (`follow`). Processor milliseconds, median and 95th percentile of 40, and
of the marks of what hangs on the samples: drawn for the first time, and after another setting.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from streamlit.testing.v1 import AppTest

from tests.synthetic_run import synthetic_run


def steps() -> None:
    """Runs as a page of Streamlit's, in which nothing of this module is at hand."""
    import runpy
    import time

    import numpy as np

    from dashboard.state import address, estimating

    def took(do) -> float:
        begun = time.process_time()
        do()
        return 1e3 * (time.process_time() - begun)

    address.restore()
    estimating.settle()
    page = runpy.run_path("pages/budget.py")
    ways = {"shrinkage": (0.2, 0.9), "average_bits": (2.1, 3.9), "vision_weight": (0.1, 3.9)}
    for name, ends in ways.items():
        spent = []
        for value in np.linspace(*ends, 40).round(4).tolist():
            address.choose(**{name: value})
            spent.append(took(page["follow"]))
        print(f"{name:<16}{np.median(spent):8.1f}{np.percentile(spent, 95):8.1f} ms")
    address.choose(method="mode_output")
    print(f"{'fold marks':<16}{took(estimating.stability):8.1f} first", end="")
    address.choose(average_bits=2.5)
    print(f"{took(estimating.stability):8.1f} ms at another budget")


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        synthetic_run(Path(folder) / "large", 48, 128)
        os.environ["MODE_RUNS"] = folder
        app = AppTest.from_function(steps, default_timeout=300)
        app.query_params["run"] = "large"
        app.run()
        for failed in app.exception:
            raise SystemExit(failed.message)


if __name__ == "__main__":
    main()
