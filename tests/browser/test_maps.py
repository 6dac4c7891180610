"""The maps of the Experts page under a person's hands: keys, clicks, a finger, the window, the whole screen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.browser.server import ROOT, browser_path, settled
from tests.browser.walking import Walker, newcomer, walker

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(300),
    pytest.mark.skipif(browser_path() is None, reason="no chromium, chromium-browser or google-chrome on this machine"),
    pytest.mark.skipif(not (ROOT / "sample_data/run/run.json").is_file(), reason="the bundled run is not here"),
]
MAPS = "[data-chart='maps']"
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def opened(person: Walker, address: str = "") -> Any:
    """The maps, drawn."""
    person.open(address, "Experts")
    held = person.page.locator(f"{MAPS}[data-updates]")
    held.wait_for()
    settled(person.page)
    return held


def crosshair(person: Walker) -> tuple[float, float]:
    """(row, column) in the middle of the marks, the same on every map."""
    shapes = person.page.evaluate(f"""document.querySelector("{MAPS}")._fullLayout.shapes.map(
        ({{name, x0, x1, y0, y1}}) => ({{name, x: (x0 + x1) / 2, y: (y0 + y1) / 2}}))""")
    rows = {shape["y"] for shape in shapes if shape["name"] == "row"}
    columns = {shape["x"] for shape in shapes if shape["name"] == "column"}
    assert len(shapes) == 16 and len(rows) == len(columns) == 1
    return rows.pop(), columns.pop()


def ranges(person: Walker) -> list[list[float]]:
    return person.page.evaluate(f"""["xaxis", "yaxis4"].map(
        name => [...document.querySelector("{MAPS}")._fullLayout[name].range])""")


def test_every_press_of_a_held_key_moves_on_and_is_read_out(site):
    with walker(site) as person:
        maps, page = opened(person, "?bank=1&expert=3"), person.page
        assert maps.get_attribute("role") == "group" and "Arrow keys" in maps.get_attribute("aria-label")
        maps.focus()
        for _ in range(17):  # as fast as keys can be pressed
            page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowDown")
        assert crosshair(person) == (2, 20)  # at once, before the page has answered
        page.wait_for_function("/expert=20/.test(location.search) && /bank=2/.test(location.search)")
        settled(page)
        assert crosshair(person) == (2, 20)
        assert page.get_by_role("spinbutton", name="Expert").input_value() == "20"
        said = page.locator("[aria-live=polite][data-part=live]").first.inner_text()
        load = page.evaluate(f'document.querySelector("{MAPS}")._fullData[1].text[2][20]')
        assert said.startswith("layer 2, expert 20: text ") and f"raw vision {float(f'{load:.2g}'):g} times" in said
        for _ in range(40):
            page.keyboard.press("ArrowRight")
        page.wait_for_function("/expert=31/.test(location.search)")  # the last one; no further


def test_zoom_and_choice_stay_when_layers_and_experts_are_sorted(site):
    with walker(site) as person:
        maps, page = opened(person, "?bank=1&expert=10"), person.page
        plot = maps.locator(".nsewdrag").first.bounding_box()
        page.mouse.move(plot["x"] + 0.25 * plot["width"], plot["y"] + 10)
        page.mouse.down()
        page.mouse.move(plot["x"] + 0.75 * plot["width"], plot["y"] + 12, steps=8)
        page.mouse.up()
        page.wait_for_timeout(600)
        zoomed = ranges(person)
        assert 5 < zoomed[0][0] < 10 and 20 < zoomed[0][1] < 26
        page.get_by_role("button", name="Arrange").click()
        for switch in ("By text–vision divergence", "From text to denoised vision"):
            page.get_by_role("radio", name=switch).click()
            settled(page)
        page.keyboard.press("Escape")
        page.wait_for_function("/layers=divergence/.test(location.search)")
        assert np.allclose(np.array(ranges(person), float), np.array(zoomed, float))
        row, column = map(int, crosshair(person))
        found = page.evaluate(
            f'([row, column]) => {{ const {{y, customdata}} = document.querySelector("{MAPS}")._fullData[3];'
            "return [y[row].split(' ')[1], customdata[row][column]]; }",
            [row, column],
        )
        assert found == ["1", 10]


def test_the_maps_take_their_height_from_the_window_and_fill_the_screen(site):
    with walker(site) as person:
        page = person.page
        maps = opened(person, "?bank=0")  # by a link: without the doors of a first visit
        heights = []
        for width, height in ((1920, 1080), (1366, 768), (1366, 720)):
            page.set_viewport_size({"width": width, "height": height})
            page.wait_for_timeout(900)
            box = maps.bounding_box()
            assert box["y"] + box["height"] <= height and box["height"] > 500  # all of them in the first view
            heights.append(box["height"])
        assert heights[1] - heights[2] == pytest.approx(48, abs=2)
        assert not page.locator(".st-key-jumps").is_visible()
        page.get_by_role("button", name="Full screen").first.click()
        page.wait_for_timeout(900)
        stage = page.locator("[data-whole]")
        assert stage.bounding_box() == {"x": 0, "y": 0, "width": 1366, "height": 720}
        assert maps.bounding_box()["y"] + maps.bounding_box()["height"] < 720
        page.get_by_role("spinbutton", name="Expert").wait_for()  # the close-up comes along
        page.get_by_role("button", name="Leave full screen").click()
        page.wait_for_timeout(900)
        assert stage.count() == 0 and maps.bounding_box()["height"] == pytest.approx(heights[2], abs=2)


def test_a_finger_scrolls_the_page_over_the_maps_and_a_tap_chooses(site):
    with newcomer(site, **PHONE) as person:
        maps, page = opened(person, "?bank=0"), person.page  # by a link: without the doors of a first visit
        plot = maps.locator(".nsewdrag").first.bounding_box()
        assert plot["y"] < 700  # what stands above is not all of the first screen
        page.touchscreen.tap(plot["x"] + plot["width"] * 0.5, plot["y"] + 20)
        page.wait_for_function("/expert=1[4-8]/.test(location.search)")
        settled(page)
        plot = maps.locator(".nsewdrag").first.bounding_box()
        swipe(page, plot["x"] + 60, plot["y"] + 40, -250)
        scrolled = page.evaluate("document.querySelector('[data-testid=stMain]').scrollTop")
        assert scrolled > 100
        assert maps.bounding_box()["y"] == pytest.approx(plot["y"] - scrolled, abs=60)
        page.locator(".st-key-jumps a").last.tap()  # a long way, in one step
        page.wait_for_function("""() => {
            const { top } = document.querySelector("[data-chart='profile']").getBoundingClientRect();
            return top > 0 && top < innerHeight / 2; }""")


def swipe(page: Any, x: float, y: float, distance: float) -> None:
    """One finger up or down."""
    hand = page.context.new_cdp_session(page)
    hand.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for step in range(1, 11):
        point = {"x": x, "y": y + distance * step / 10}
        hand.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [point]})
        page.wait_for_timeout(16)
    hand.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.wait_for_timeout(700)
