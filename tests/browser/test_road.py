"""The whole road through the browser: own pictures, run, experts, budget, measurement, questions, export.

What lies in the folder and in the zip at the end holds the bits that were on the screen, and those are the library's.
"""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

import pytest

from mode_core.allocation import allocate
from mode_core.export import read_expert_bits
from mode_core.importance import cost_table
from mode_core.run import Run
from tests.browser.server import ROOT, browser_path, settled
from tests.browser.walking import Walker, walker

BUNDLED = ROOT / "sample_data" / "run"
PICTURES = ROOT / "sample_data" / "calibration" / "images"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browser_path() is None, reason="no chromium, chromium-browser or google-chrome on this machine"),
    pytest.mark.skipif(not (ROOT / "sample_data/model/config.json").is_file(), reason="the bundled model is not here"),
]
QUESTION = "what colour is the shape at the top left?"
BUDGET = "Budget for all routed experts"


@pytest.mark.timeout(600)
def test_from_own_pictures_to_the_exported_bits(site, tmp_path: Path):
    with walker(site) as person:
        calibrate_own_pictures(person, site.runs)
        look_at_experts(person)
        drag_the_budget(person)
        measure_and_ask(person)
        written, zipped = take_along(person, site.exports, tmp_path)
        chosen = person.address
    statistics = Run.open(site.runs / "mine").statistics
    assert "method" not in chosen  # what a run with gradients recommends
    ratio = int(chosen["ratio"]) / 100
    costs = cost_table(statistics, "mode_soft_fisher", key_ratio=ratio, bits=(2, 3, 4), shrinkage=0.5)
    by_hand = allocate(costs, bits=(2, 3, 4), average_bits=float(chosen["bits"]), scope="model")
    layers = {bank.name: str(bank.shape.layer) for bank in statistics}
    expected = {layers[name]: bits.tolist() for name, bits in by_hand.bits.items()}
    assert len({width for bits in expected.values() for width in bits}) > 1  # uniform bits would prove nothing
    for file in (written, zipped):
        held = read_expert_bits(file)
        assert {str(layer): list(map(int, bits)) for layer, bits in held.items()} == expected, file


def calibrate_own_pictures(person: Walker, runs: Path) -> None:
    """Own pictures, a typed question, the bundled model; the page is loaded anew while the job runs."""
    page = person.page
    person.open("calibrate", "Calibrate")
    pictures = sorted(PICTURES.glob("colour-*.png"))[:6]
    person.give_pictures(pictures)
    asked = page.get_by_role("textbox", name=pictures[0].name)
    asked.fill(QUESTION)
    asked.press("Enter")
    settled(page)
    named = page.get_by_role("textbox", name="Name of the run")
    named.fill("mine")
    named.press("Enter")
    settled(page)
    page.get_by_text("in 6 samples").wait_for()
    page.get_by_role("button", name="Start calibration").click()
    page.wait_for_function("location.search.includes('job=')")
    page.reload()  # uploads are gone with the session, the job is not
    second = page.context.new_page()  # nor is it hidden from a second tab with the same address
    second.goto(page.url)
    for tab in (page, second):
        tab.get_by_text("Calibration of 6 samples").or_(tab.get_by_text("is finished and open")).first.wait_for()
    second.close()
    page.get_by_text("is finished and open").wait_for()
    assert person.address["run"] == "mine"
    texts = [sample["text"] for sample in Run.open(runs / "mine").sample_records()]
    assert sorted(texts) == sorted([QUESTION] + ["Describe the picture."] * 5)
    person.press("See its experts")
    person.arrived("Experts")


def look_at_experts(person: Walker) -> None:
    """The key ratio by keys and by mouse, an expert by a click on the map and by arrow keys."""
    page, ratio = person.page, person.slider("Key vision tokens (key ratio)")
    ratio.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.wait_for_function("location.search.includes('ratio=23')")
    settled(page)
    before = person.drawn("maps")
    with person.dragging("Key vision tokens (key ratio)", 0.5):
        person.await_drawing("maps", before)  # while it is held
        assert "ratio=23" in page.url  # the address waits until it is let go
    page.wait_for_function("/ratio=(4[5-9]|5[0-5])/.test(location.search)")
    settled(page)
    plot = page.locator("[data-chart='maps']")
    plot.locator(".nsewdrag").first.click(position={"x": 150, "y": 20})
    page.wait_for_function("/expert=[1-9]/.test(location.search)")
    settled(page)
    clicked = int(person.address["expert"])
    plot.focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function(f"new URLSearchParams(location.search).get('expert') === '{clicked - 1}'")
    settled(page)
    assert page.get_by_role("spinbutton", name=re.compile("^Expert, of ")).input_value() == str(clicked - 1)


def drag_the_budget(person: Walker) -> None:
    """Numbers move while the mouse still holds the slider, and a reload loses nothing."""
    page = person.page
    person.to("Budget")
    seen = [person.figure("Routed experts").inner_text()]
    with person.dragging(BUDGET, 0.25):
        for share in (0.25, 0.1, 0.3):
            box = person.slider(BUDGET).bounding_box()
            page.mouse.move(box["x"] + share * box["width"], box["y"] + box["height"] / 2, steps=4)
            page.wait_for_function(_OTHER_FIGURE, arg=["Routed experts", seen[-1]])
            seen.append(person.figure("Routed experts").inner_text())
    page.wait_for_function("location.search.includes('bits=')")
    settled(page)
    assert person.address["bits"].startswith("2.")
    chosen, size = person.address, person.figure("Routed experts").inner_text()
    page.reload()
    person.arrived("Budget")
    assert person.address == chosen
    assert person.figure("Routed experts").inner_text() == size
    assert float(person.slider(BUDGET).input_value()) == float(chosen["bits"])


_OTHER_FIGURE = """([label, before]) => [...document.querySelectorAll('.readout dl > div')].some(
    figure => figure.innerText.includes(label) && figure.querySelector('dd').innerText !== before)"""


def measure_and_ask(person: Walker) -> None:
    """Quantize and measure on few items, then one question to all three models."""
    page = person.page
    person.to("Quantize")
    person.slider("Evaluation items").focus()
    page.keyboard.press("Home")
    settled(page)
    page.get_by_role("button", name="Quantize and measure").click()
    page.get_by_text("Accuracy, this allocation").wait_for()
    settled(page)
    captions = page.get_by_test_id("stCaptionContainer")
    named = [captions.get_by_text(model, exact=True) for model in ("original", "this allocation")]
    above = [model.count() for model in named]  # beside the items on which they part
    page.get_by_role("button", name="Ask", exact=True).click()
    for model, count in zip(named, above, strict=True):
        model.nth(count).wait_for()
    settled(page)


def take_along(person: Walker, exports: Path, place: Path) -> tuple[Path, Path]:
    """The bits written to the folder, and out of the downloaded zip."""
    page = person.page
    person.to("Export")
    page.get_by_text("The bits as data").click()
    page.get_by_test_id("stRadioGroup").get_by_text("Bits per expert").click()
    settled(page)
    page.get_by_role("button", name="Write to a folder").click()
    page.get_by_text(" files in ").wait_for()
    [written] = exports.glob("mine-*/expert_bits.json")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as zip").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        [name] = [name for name in archive.namelist() if name.endswith("expert_bits.json")]
        manifest = json.loads(archive.read(str(Path(name).with_name("manifest.json"))))
        assert (
            manifest["run"] == json.loads(written.with_name("manifest.json").read_text())["run"]
        )  # not the bundled one
        return written, Path(archive.extract(name, place))
