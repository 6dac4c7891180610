"""In a narrow window panels stack, nothing is cut or reaches beyond it, and in dark colours every word can be read, in
what opens over a page as well."""

from __future__ import annotations

import pytest

from dashboard.parts.learn.lessons import LESSONS
from tests.browser.accessible import violations_everywhere
from tests.browser.server import ROOT, browser_path, settled
from tests.browser.walking import walker

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browser_path() is None, reason="no chromium, chromium-browser or google-chrome on this machine"),
    pytest.mark.skipif(not (ROOT / "sample_data/run/run.json").is_file(), reason="the bundled run is not here"),
]
VIEWS = {
    "": "Experts",
    "?view=specialisation&order=specialisation": "Experts",
    "calibrate": "Calibrate",
    "tokens?shown=signals&ratio=55": "Tokens",
    "budget": "Budget",
    "budget?panel=card&gpu=24&budget=MB": "Budget",
    "budget?panel=prices&unit=projection&scope=model": "Budget",
    "quantize": "Quantize",
    "compare": "Compare",
    "compare?section=rankings": "Compare",
    "compare?section=runs": "Compare",
    "export": "Export",
} | {f"learn?step={place + 1}": lesson.title for place, lesson in enumerate(LESSONS) if place % 3 == 1}  # of like build
# What lies beyond the window, or beyond the group of buttons it is in. Tables and code scroll by themselves.
_CUT = """() => {
  const main = document.querySelector("[data-testid=stMain]"), found = [];
  const name = (element) => `${element.tagName} ${(element.textContent || "").slice(0, 40)}`;
  if (main.scrollWidth > main.clientWidth + 1) found.push("the page scrolls sideways");
  const words = "button, label, p, dt, dd, h1, h2, h3, [data-testid=stMetricValue], .main-svg text";
  for (const element of main.querySelectorAll(words)) {
    const { width, left, right } = element.getBoundingClientRect();
    if (!width || element.closest("[data-testid=stDataFrame], pre")) continue;
    if (left < -1 || right > innerWidth + 1) found.push(name(element));
  }
  for (const group of main.querySelectorAll("[data-testid=stButtonGroup]")) {
    const { right } = group.getBoundingClientRect();
    for (const button of group.querySelectorAll("button")) {
      if (button.getBoundingClientRect().right > right + 1) found.push(name(button));
    }
  }
  return found;
}"""


@pytest.mark.timeout(900)
def test_nothing_is_cut(site):
    cut, faint = {}, {}
    with walker(site, color_scheme="dark") as person:  # looks at the console at its end
        person.page.set_viewport_size({"width": 390, "height": 844})
        for address, heading in VIEWS.items():
            person.open(address, heading)
            if person.page.get_by_text("Predict first.").count():
                person.page.get_by_test_id("stButtonGroup").last.get_by_role("radio").first.click()
                settled(person.page)
            assert person.page.get_by_test_id("stException").count() == 0, address
            person.page.wait_for_timeout(100)
            if found := person.page.evaluate(_CUT):
                cut[address] = found
            if heading not in faint:  # one view of each page
                faint[heading] = violations_everywhere(person.page, "color-contrast", unfold=False)
    assert not cut and not any(faint.values()), (cut, faint)
