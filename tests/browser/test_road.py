"""One walk through the browser: Experts, Budget, Quantize, Export; and the exported file holds what was on screen."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from mode_core.allocation import allocate
from mode_core.importance import cost_table
from mode_core.run import Run
from tests.app.conftest import NAME, tiny_runs  # noqa: F401
from tests.browser.server import ROOT, browser_path, chromium, running_app, settled

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browser_path() is None, reason="no chromium, chromium-browser or google-chrome on this machine"),
]
BUNDLED = ROOT / "sample_data" / "run"
# Streamlit looks for its server beside a deep link first, and for its own news on the internet.
HARMLESS = ("/_stcore/", "favicon")


@pytest.fixture
def opened_run(request, tmp_path: Path):
    """The bundled run where it is there, else the tiny one: (its folder, its address, the environment)."""
    environment = {"MODE_RUNS": str(tmp_path / "runs"), "MODE_EXPORTS": str(tmp_path / "exports")}
    if (BUNDLED / "run.json").is_file():
        return BUNDLED, "", environment
    return (
        request.getfixturevalue("tiny_runs") / NAME,
        f"run={NAME}",
        environment | {"MODE_RUNS": str(request.getfixturevalue("tiny_runs"))},
    )


def to_page(page, name: str) -> None:
    page.get_by_test_id("stSidebarNav").get_by_role("link", name=name).click()
    page.get_by_role("heading", name=name, exact=True, level=1).wait_for()
    settled(page)


def address(page) -> dict[str, str]:
    return {key: values[0] for key, values in parse_qs(urlsplit(page.url).query).items()}


@pytest.mark.timeout(300)
def test_from_experts_to_the_exported_bits(opened_run):
    folder, query, environment = opened_run
    faults: list[str] = []
    with running_app(environment) as url, chromium() as browser:
        page = browser.new_page(viewport={"width": 1366, "height": 900}, accept_downloads=True)
        page.set_default_timeout(120_000)
        page.on("console", lambda said: said.type == "error" and faults.append(f"{said.text} ({said.location['url']})"))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(f"{url}/?{query}")
        page.get_by_role("heading", name="Experts", exact=True, level=1).wait_for()
        settled(page)
        page.locator(".js-plotly-plot").first.wait_for()

        to_page(page, "Budget")
        slider = page.get_by_role("slider").first
        slider.focus()
        for _ in range(12):
            page.keyboard.press("ArrowLeft")
        page.wait_for_function("location.search.includes('bits=')")
        settled(page)
        chosen = address(page)
        page.reload()  # nothing is lost
        page.get_by_role("heading", name="Budget", exact=True, level=1).wait_for()
        assert address(page) == chosen

        to_page(page, "Quantize")
        assert address(page) == chosen
        page.get_by_role("slider", name="Evaluation items").focus()
        page.keyboard.press("Home")
        settled(page)
        page.get_by_role("button", name="Quantize and measure").click()
        page.get_by_text("Accuracy, this allocation").wait_for(timeout=240_000)

        to_page(page, "Export")
        page.get_by_test_id("stRadioGroup").get_by_text("Bits per expert").click()
        settled(page)
        with page.expect_download() as download:
            page.get_by_role("button", name="Download as zip").click()
        data = Path(download.value.path()).read_bytes()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        [name] = [name for name in archive.namelist() if name.endswith("expert_bits.json")]
        exported = json.loads(archive.read(name))["expert_bits"]
    assert exported == by_hand(folder, float(chosen["bits"]))
    assert [fault for fault in faults if not any(word in fault for word in HARMLESS)] == []


def by_hand(folder: Path, average_bits: float) -> dict[str, dict[str, int]]:
    """The same allocation from the library: layer → expert → bits."""
    statistics = Run.open(folder).statistics
    solved = allocate(cost_table(statistics, bits=(2, 3, 4)), bits=(2, 3, 4), average_bits=average_bits)
    layers = {bank.name: str(bank.shape.layer) for bank in statistics}
    return {
        layers[name]: {str(expert): int(width) for expert, width in enumerate(bits)}
        for name, bits in solved.bits.items()
    }
