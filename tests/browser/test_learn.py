"""Learn in lecture mode: keys lead from step to step, no step has to be scrolled, and no letter is below 18 pixels."""

from __future__ import annotations

import pytest

from dashboard.parts.learn.lessons import LESSONS
from tests.browser.server import browser_path, settled
from tests.browser.test_road import BUNDLED
from tests.browser.walking import walker

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browser_path() is None, reason="no chromium, chromium-browser or google-chrome on this machine"),
    pytest.mark.skipif(not (BUNDLED / "run.json").is_file(), reason="the bundled run is not there yet"),
]
# Letters that are seen: on the page, in charts, in components of our own; not what formulas and powers raise or lower.
_SMALL = """() => {
  const found = new Set();
  const look = (root) => {
    for (const element of root.querySelectorAll("*")) {
      if (element.shadowRoot) look(element.shadowRoot);
      const own = [...element.childNodes].filter((one) => one.nodeType === 3).map((one) => one.data.trim()).join("");
      const { width, height } = element.getBoundingClientRect();
      const hidden = element.closest(".katex, .modebar, [data-testid=stIconMaterial], tspan[style*='70%']");
      const size = parseFloat(getComputedStyle(element).fontSize);
      if (own && width > 1 && height > 1 && !hidden && size < 17.99) found.add(`${own.slice(0, 30)}: ${size}`);
    }
  };
  look(document.querySelector("[data-testid=stMain]"));
  return [...found];
}"""
_BEYOND = "(main => main.scrollHeight - main.clientHeight)(document.querySelector('[data-testid=stMain]'))"


@pytest.mark.timeout(600)
def test_a_lecture_goes_through_by_keys_without_scrolling(site):
    with walker(site) as person:
        page = person.page
        page.set_viewport_size({"width": 1366, "height": 768})
        page.goto(f"{site.url}/learn?lecture=on")
        for place, lesson in enumerate(LESSONS):
            person.arrived(lesson.title)
            assert page.evaluate(_BEYOND) <= 0, lesson.key
            if page.get_by_text("Predict first.").count():
                page.get_by_test_id("stButtonGroup").last.get_by_role("radio").first.click()
                page.get_by_text("Your guess shows the answer.").wait_for(state="detached")
                settled(page)
                assert page.evaluate(_BEYOND) <= 0, f"{lesson.key}, answered"
                assert not page.evaluate(_SMALL), lesson.key
                page.locator("h1").click()  # a focused choice keeps the arrow keys for itself
            page.keyboard.press("ArrowRight" if place % 2 else "PageDown")
        page.keyboard.press("PageUp")
        page.get_by_role("heading", name=LESSONS[-2].title, exact=True, level=1).wait_for()
        assert "step=6" in page.url and not page.get_by_test_id("stSidebar").is_visible()
        row = page.get_by_role("navigation", name="Steps")
        row.get_by_role("button", name="Full screen", exact=True).click()
        page.wait_for_function("document.fullscreenElement === document.documentElement")
        row.get_by_role("button", name="Leave full screen").wait_for()
        page.get_by_text("Lecture mode").click()
        page.get_by_test_id("stSidebar").wait_for()
        assert "lecture" not in page.url and page.evaluate(_SMALL)  # what is measured here would be noticed
