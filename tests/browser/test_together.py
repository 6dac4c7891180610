"""Two people at once: what one uploads the other does not see, and both drag without waiting for each other's pages."""

from __future__ import annotations

import pytest

from tests.browser.server import ROOT, browser_path, settled
from tests.browser.walking import Walker, newcomer, walker

PICTURES = ROOT / "sample_data" / "calibration" / "images"
RUN = ROOT / "sample_data" / "run"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browser_path() is None, reason="no chromium, chromium-browser or google-chrome on this machine"),
    pytest.mark.skipif(not (RUN / "run.json").is_file(), reason="the bundled run is not here"),
]
BUDGET = "Budget for all routed experts"
_AVERAGE = """bits => [...document.querySelectorAll('.readout dl > div')].some(
    figure => figure.innerText.includes('Average bits') && RegExp(bits).test(figure.querySelector('dd').innerText))"""


def upload(person: Walker, name: str) -> None:
    person.open("calibrate", "Calibrate")
    person.give_pictures(PICTURES / name)
    person.page.get_by_role("textbox", name=name).wait_for()
    settled(person.page)


@pytest.mark.timeout(600)
def test_two_people_do_not_see_each_other(site):
    with walker(site) as one, newcomer(site) as other:
        upload(one, "colour-0000.png")
        upload(other, "shape-0001.png")
        one.to("Budget")  # away and back again: uploads stay with their owner
        one.to("Calibrate")
        assert one.page.get_by_role("textbox", name="colour-0000.png").count() == 1
        assert one.page.get_by_text("shape-0001.png").count() == 0
        assert other.page.get_by_text("colour-0000.png").count() == 0
        for person in (one, other):
            person.to("Budget")
        with one.dragging(BUDGET, 0.2), other.dragging(BUDGET, 0.8):  # one's mouse is down while the other's moves
            for person, bits in ((one, "2\\.[34]"), (other, "3\\.[567]")):
                person.page.wait_for_function(_AVERAGE, arg=bits)  # answered while both still hold
        for person in (one, other):
            person.page.wait_for_function("location.search.includes('bits=')")
            settled(person.page)
        chosen = [person.address["bits"] for person in (one, other)]
        shown = [person.figure("Average bits").inner_text() for person in (one, other)]
        assert float(chosen[0]) < 2.6 < 3.4 < float(chosen[1])
        assert [abs(float(bits) - float(asked)) < 0.05 for bits, asked in zip(shown, chosen, strict=True)] == [True] * 2
