"""What a person waits for, measured in a real browser on this machine: `python -m tests.benchmarks.browser`.

A synthetic run of 48 banks × 128 experts (or `--banks 94 --experts 128`) is opened in the dashboard on localhost, in
headless Chromium. The table has the median, the 95th percentile and the target of

- first page: from the first request to a fresh server until a slider can be moved and its chart is drawn;
- page change: from the click until the page's heading and its first chart stand there;
- slider to redraw: one step of a slider that is held, until Plotly has drawn the chart that follows it, the server's
  part included;
- redraws per second while a slider is dragged without a pause;
- click on a token: until its path through all layers is drawn, by itself, and with other routes (random ones, in the
  place of a quantized model's) beside;
- processor time of one step in the server and in the browser: what a step takes where nothing else runs, since the two
  work one after the other. Wall times on a busy machine say little; these do.

Run it on an idle machine; `--runs` repeats the first page. Nothing here is a test: no number fails.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil

from tests.browser.server import chromium, running_app, settled
from tests.synthetic_run import synthetic_run

DRAG_SECONDS = 4.0
PAGES = ("Tokens", "Budget", "Compare", "Experts", "Learn", "Experts")
SLIDERS = {  # page -> its slider's label, the chart that follows
    "Experts": ("Key vision tokens (key ratio)", "maps"),
    "Budget": ("Budget for all routed experts", "bits"),
    "Tokens": ("Key vision tokens (key ratio)", "token-picture"),
}
# One step of the slider, and the milliseconds until the chart behind `holder` has been drawn once more.
_STEP = """async ([input, holder, forward]) => {
  const seen = Number(holder.dataset.updates || 0), begun = performance.now();
  input.dispatchEvent(new Event("pointerdown", { bubbles: true })); // held, as by a hand
  forward ? input.stepUp() : input.stepDown();
  input.dispatchEvent(new Event("input", { bubbles: true }));
  while (Number(holder.dataset.updates || 0) === seen) {
    await new Promise((wake) => requestAnimationFrame(wake));
    if (performance.now() - begun > 20000) return null;
  }
  return performance.now() - begun;
}"""
# Move the slider at every frame for a while, and count how often the chart was drawn.
DRAG = """async ([input, holder, seconds]) => {
  const seen = Number(holder.dataset.updates || 0), begun = performance.now();
  const low = Number(input.min), span = Number(input.max) - low;
  input.dispatchEvent(new Event("pointerdown", { bubbles: true }));
  for (let now = 0; (now = (performance.now() - begun) / 1000) < seconds; ) {
    input.value = low + span * (0.5 + 0.4 * Math.sin(2 * now));
    input.dispatchEvent(new Event("input", { bubbles: true }));
    await new Promise((wake) => requestAnimationFrame(wake));
  }
  const drawn = (Number(holder.dataset.updates || 0) - seen) / seconds;
  input.dispatchEvent(new Event("pointerup", { bubbles: true }));
  return drawn;
}"""

# The same for a click on the next token.
_CLICK = """async ([chips, holder, token]) => {
  const seen = Number(holder.dataset.updates), begun = performance.now();
  chips.querySelector(`[data-token='${token}']`).click();
  while (Number(holder.dataset.updates) === seen) {
    await new Promise((wake) => requestAnimationFrame(wake));
    if (performance.now() - begun > 20000) return null;
  }
  return performance.now() - begun;
}"""
# In the server, as `sitecustomize`: every sample has other routes beside its own, as after a job that asked a model.
_BESIDE = """
import sys, threading, time

def beside():
    while not hasattr(part := sys.modules.get("dashboard.parts.tokens.routes"), "both_routes"):
        time.sleep(0.02)
    import numpy as np
    from dashboard.state import current_run
    from tests.synthetic_run import drawn_routes
    kept, draw = {}, np.random.default_rng(1)

    def both(own):
        if own.sample not in kept:
            other = drawn_routes(own.sample, current_run.statistics(), draw)
            kept[own.sample] = own, other, draw.integers(0, 9, own.entropy.shape)
        return kept[own.sample]
    part.both_routes = both

threading.Thread(target=beside, daemon=True).start()
"""


def row(what: str, values: Sequence[float], target: str, unit: str = "ms") -> None:
    """One line of the table."""
    held = np.asarray([value for value in values if value is not None], float)
    told = f"{np.median(held):8.0f} {np.percentile(held, 95):8.0f} {unit}" if held.size else "   never answered"
    print(f"{what:<34}{told:>22}   {held.size:>3} times   target {target}", flush=True)


def first_page(url: str, browser, query: str) -> float:
    """Milliseconds from the request until the Experts page can be used."""
    page = browser.new_page(viewport={"width": 1366, "height": 768})
    page.set_default_timeout(180_000)
    begun = time.perf_counter()
    page.goto(f"{url}/?{query}", wait_until="commit")
    page.get_by_role("slider").first.wait_for()
    page.locator("[data-part=figure][data-updates]").first.wait_for()
    took = 1e3 * (time.perf_counter() - begun)
    page.close()
    return took


def opened(url: str, browser):
    """A page on the large run, at rest."""
    page = browser.new_page(viewport={"width": 1366, "height": 768})
    page.set_default_timeout(180_000)
    page.goto(f"{url}/?run=large")
    page.get_by_role("slider").first.wait_for()
    settled(page)
    return page


def to_page(page, name: str) -> float:
    """Milliseconds from the click on a page's name until its first chart is drawn."""
    begun = time.perf_counter()
    page.get_by_test_id("stSidebarNav").get_by_role("link", name=name).click()
    page.wait_for_function(
        "name => location.pathname.endsWith('/' + name) || (name === 'experts' && location.pathname === '/')",
        arg=name.lower(),
    )
    if name == "Learn":
        page.get_by_role("navigation", name="Steps").wait_for()
    else:
        page.get_by_role("heading", name=name, exact=True, level=1).wait_for()
    if name != "Compare":  # a run without evidence has no chart there
        page.locator("[data-part=figure][data-updates]").first.wait_for()
    return 1e3 * (time.perf_counter() - begun)


def processor_seconds() -> dict[str, float]:
    """Processor time so far of the server and of the browser that this process started."""
    spent = {"server": 0.0, "browser": 0.0}
    for child in psutil.Process().children(recursive=True):
        try:
            words, times = " ".join(child.cmdline()), child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        kind = "server" if "streamlit" in words else "browser" if "chrom" in words else None
        if kind:
            spent[kind] += times.user + times.system
    return spent


def spent_a_step(before: dict[str, float], steps: int) -> None:
    """A line of what each of so many steps took."""
    spent = {kind: 1e3 * (now - before[kind]) / steps for kind, now in processor_seconds().items()}
    told = ", ".join(f"{kind} {value:.0f} ms" for kind, value in spent.items())
    print(f"{'  processor time of a step':<34}{told:>30}", flush=True)


def slider_and_chart(page, name: str) -> list:
    """Handles of a page's slider and of the chart that follows it."""
    label, chart = SLIDERS[name]
    holder = page.locator(f".st-key-{chart} [data-part=figure], [class*='st-key-{chart}'] [data-part=figure]").first
    holder.wait_for()
    return [page.get_by_role("slider", name=label).first.element_handle(), holder.element_handle()]


def measure(page, steps: int) -> None:
    """Page changes, then every slider."""
    first, again = [], []
    for turn in range(2):
        for name in PAGES:
            (again if turn else first).append(to_page(page, name))
            settled(page)
    row("page change, first visit", first, "500 ms")
    row("page change, again", again, "500 ms")
    for name in SLIDERS:
        to_page(page, name)
        settled(page)
        held = slider_and_chart(page, name)
        page.evaluate(_STEP, [*held, True])
        took, before = [], processor_seconds()
        for number in range(steps):
            page.wait_for_timeout(150)
            took.append(page.evaluate(_STEP, [*held, number < steps // 2]))
        row(f"slider to redraw, {name}", took, "100 ms at the 95th percentile")
        spent_a_step(before, steps)
        rate = page.evaluate(DRAG, [*held, DRAG_SECONDS])
        print(f"{'redraws a second, dragged, ' + name:<34}{rate:>14.1f}", flush=True)


def measure_clicks(page, steps: int, what: str) -> None:
    """Clicks on one token after another of the first sample."""
    to_page(page, "Tokens")
    settled(page)
    page.get_by_role("radio", name="Which experts did this token use?").click()
    path = page.locator(".st-key-token-path [data-part=figure]")
    path.and_(page.locator("[data-updates]")).wait_for()
    settled(page)
    held, took = [page.locator("[data-part=chips]").element_handle(), path.element_handle()], []
    page.evaluate(_CLICK, [*held, 1])
    before = processor_seconds()
    for number in range(steps):
        page.wait_for_timeout(400)
        took.append(page.evaluate(_CLICK, [*held, 2 + number]))
    settled(page)
    row(f"click on a token{what}", took, "100 ms")
    spent_a_step(before, steps)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--banks", type=int, default=48)
    parser.add_argument("--experts", type=int, default=128)
    parser.add_argument("--runs", type=int, default=2, help="fresh servers for the first page (default: 2)")
    parser.add_argument("--steps", type=int, default=30, help="of each slider (default: 30)")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"synthetic run of {options.banks} × {options.experts}; {os.cpu_count()} cores, load {load:.1f} at the start")
    print(f"{'':<34}{'median':>8} {'p95':>8}")
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        synthetic_run(Path(folder) / "large", options.banks, options.experts)
        environment = {"MODE_RUNS": folder}
        for query, what in (("", "first page, bundled run"), ("run=large", "first page, synthetic run")):
            took = []
            for _ in range(options.runs):
                with running_app(environment) as url:
                    took.append(first_page(url, browser, query))
            row(what, took, "3000 ms")
        with running_app(environment) as url:
            page = opened(url, browser)
            measure(page, options.steps)
            measure_clicks(page, options.steps, "")
        (Path(folder) / "sitecustomize.py").write_text(_BESIDE, encoding="utf-8")
        with running_app(environment | {"PYTHONPATH": folder}) as url:
            measure_clicks(opened(url, browser), options.steps, ", other routes beside")


if __name__ == "__main__":
    main()
