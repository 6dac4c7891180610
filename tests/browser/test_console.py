"""No page leaves an error in the browser's console, come to by the sidebar (`test_narrow` comes by addresses), or is
closed to somebody who cannot see it or use a mouse, with all that opens on it; in dark colours `test_narrow` looks at
that."""

from __future__ import annotations

import pytest

from dashboard.parts.learn.lessons import LESSONS
from tests.browser.accessible import violations, violations_everywhere
from tests.browser.server import ROOT, browser_path
from tests.browser.walking import walker

PAGES = ("Experts", "Calibrate", "Tokens", "Budget", "Quantize", "Compare", "Export")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browser_path() is None, reason="no chromium, chromium-browser or google-chrome on this machine"),
    pytest.mark.skipif(not (ROOT / "sample_data/run/run.json").is_file(), reason="the bundled run is not here"),
]


@pytest.mark.timeout(600)
def test_no_page_complains_or_shuts_anybody_out(site):
    grave = {}
    with walker(site) as person:  # looks at the console at its end
        person.open("", "Experts")
        grave["Experts"] = violations_everywhere(person.page)
        for name in PAGES[1:]:
            person.to(name)
            assert person.page.get_by_test_id("stException").count() == 0, name
            grave[name] = violations_everywhere(person.page)
        person.page.get_by_test_id("stSidebarNav").get_by_role("link", name="Learn").click()
        person.arrived(LESSONS[0].title)
        grave["Learn"] = violations_everywhere(person.page)
        assert not any(grave.values()), grave
        person.page.evaluate("document.querySelector('[data-testid=stMain]').append(new Image())")
        assert any("image-alt" in one for one in violations(person.page))  # it would be noticed


@pytest.mark.timeout(180)
def test_a_fault_would_be_noticed(site):
    """The watch itself: an error that a page throws fails the walk."""
    with pytest.raises(AssertionError, match="thrown on purpose"), walker(site) as person:
        person.page.goto("about:blank")
        person.page.evaluate("setTimeout(() => { throw new Error('thrown on purpose') })")
        person.page.wait_for_timeout(100)
