"""Whether anything grows or drifts with use: `python -m tests.benchmarks.soak [--rounds 200] [--moves 2000]`.

1. In one process, 200 rounds of calibrate (four bundled samples), allocate, quantize, answer and restore on the
   bundled model. Every round must give the same statistics, bits and logits, bit for bit, and the restored model its
   own logits; resident memory is printed as it goes.
2. In one dashboard, in headless Chromium, the Experts and Budget sliders are dragged until their charts were redrawn
   2,000 times on a synthetic run of 48 banks × 128 experts; the server's resident memory is printed as it goes.

Ends with an error where a result differs.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import psutil
import torch

from mode_core.bundled import CALIBRATION, MODEL
from mode_core.calibration import CalibrationSettings, calibrate
from mode_core.models import encode_checked, load_model
from mode_core.quantization import quantize_experts
from mode_core.request import AllocationRequest, Quantizer
from mode_core.samples import read_samples
from tests.benchmarks.browser import DRAG, DRAG_SECONDS, slider_and_chart, to_page
from tests.benchmarks.sessions import server_of
from tests.browser.server import chromium, running_app, settled
from tests.synthetic_run import synthetic_run


def rounds(times: int) -> None:
    """Part 1.

    Raises:
        SystemExit: a round gave something else than the first.
    """
    loaded, samples = load_model(MODEL), read_samples(CALIBRATION)[:4]
    inputs = encode_checked(loaded, samples).inputs
    first, here = None, psutil.Process()
    print(f"{'round':>6} {'MB resident':>12}")
    for number in range(1, times + 1):
        statistics = calibrate(loaded, samples, CalibrationSettings(bits=(2, 3, 4), exemplars=0))
        allocation = AllocationRequest(budget=2.5).solve(statistics)
        with torch.no_grad():
            with quantize_experts(loaded, allocation, Quantizer()):
                rounded = loaded.model(**inputs).logits
            restored = loaded.model(**inputs).logits
        now = (statistics.digest(), {name: bits.tolist() for name, bits in allocation.bits.items()}, rounded, restored)
        first = first or now
        if now[:2] != first[:2] or not all(map(torch.equal, now[2:], first[2:])):
            raise SystemExit(f"Round {number} gave something else than the first.")
        if number in (1, times // 10, times // 2, times):
            print(f"{number:6} {here.memory_info().rss / 1e6:12.0f}", flush=True)
    print(f"{times} rounds: statistics, bits and logits equal to the last bit")


def moves(wanted: int) -> None:
    """Part 2."""
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        synthetic_run(Path(folder) / "large", 48, 128)
        with running_app({"MODE_RUNS": folder}) as url:
            page, server, drawn = browser.new_page(viewport={"width": 1366, "height": 768}), server_of(url), 0.0
            page.set_default_timeout(180_000)
            page.goto(f"{url}/?run=large")
            page.get_by_role("slider").first.wait_for()
            settled(page)
            print(f"{'redraws':>8} {'MB resident':>12} {'seconds':>8}")
            begun = time.monotonic()
            while drawn < wanted:
                for name in ("Experts", "Budget"):
                    to_page(page, name)
                    settled(page)
                    for _ in range(5):
                        drawn += DRAG_SECONDS * page.evaluate(DRAG, [*slider_and_chart(page, name), DRAG_SECONDS])
                        settled(page)
                print(
                    f"{drawn:8.0f} {server.memory_info().rss / 1e6:12.0f} {time.monotonic() - begun:8.0f}", flush=True
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--moves", type=int, default=2000)
    asked = parser.parse_args()
    if asked.rounds:
        rounds(asked.rounds)
    if asked.moves:
        moves(asked.moves)


if __name__ == "__main__":
    main()
