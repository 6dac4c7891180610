"""Learn in a browser: keys lead from step to step, and no step of it has to be scrolled in a lecture's window."""

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
_BEYOND = "(main => main.scrollHeight - main.clientHeight)(document.querySelector('[data-testid=stMain]'))"


@pytest.mark.timeout(600)
def test_a_lecture_goes_through_by_keys_without_scrolling(site):
    with walker(site.browser, site.url) as person:
        page = person.page
        page.set_viewport_size({"width": 1366, "height": 768})
        page.goto(f"{site.url}/learn")
        for place, lesson in enumerate(LESSONS):
            person.arrived(lesson.title)
            assert page.evaluate(_BEYOND) <= 0, lesson.key
            if page.get_by_text("Predict first.").count():
                page.get_by_test_id("stButtonGroup").last.get_by_role("radio").first.click()
                page.get_by_text("Your guess shows the answer.").wait_for(state="detached")
                settled(page)
                assert page.evaluate(_BEYOND) <= 0, f"{lesson.key}, answered"
                page.locator("h1").click()  # a focused choice keeps the arrow keys for itself
            page.keyboard.press("ArrowRight" if place % 2 else "PageDown")
        page.keyboard.press("PageUp")
        page.get_by_role("heading", name=LESSONS[-2].title, exact=True, level=1).wait_for()
        assert "step=6" in page.url
