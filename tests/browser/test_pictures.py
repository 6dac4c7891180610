"""Every chart of a page can be taken along as a picture, by keys as well, on the page's own ground."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.browser.server import ROOT, browser_path, settled
from tests.browser.walking import walker

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browser_path() is None, reason="no chromium, chromium-browser or google-chrome on this machine"),
    pytest.mark.skipif(not (ROOT / "sample_data/run/run.json").is_file(), reason="the bundled run is not here"),
]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("scheme, ground", [("light", (255, 255, 255)), ("dark", (20, 23, 28))])
def test_png_and_svg_of_a_chart(site, tmp_path: Path, scheme: str, ground: tuple[int, int, int]):
    with walker(site.browser, site.url, color_scheme=scheme) as person:
        person.open("budget", "Budget")
        person.page.locator("[data-chart='bits'][data-updates]").wait_for()
        settled(person.page)
        charts, buttons = (person.page.locator(what).count() for what in ("[data-chart]", "[data-format='png']"))
        assert charts == buttons > 1
        for kind in ("png", "svg"):
            button = person.page.get_by_role("button", name=f"Download as {kind.upper()}: Bits of every expert")
            with person.page.expect_download() as download:
                button.focus()
                person.page.keyboard.press("Enter")
            assert download.value.suggested_filename == f"bits.{kind}"
            download.value.save_as(tmp_path / f"bits.{kind}")
        drawn = person.page.locator("[data-chart='bits']").bounding_box()
    with Image.open(tmp_path / "bits.png") as picture:
        assert picture.width == pytest.approx(2 * drawn["width"], abs=4)
        assert picture.convert("RGB").getpixel((1, 1)) == ground
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 20  # there is something on it
    text = (tmp_path / "bits.svg").read_text(encoding="utf-8")
    assert text.startswith("<svg") and "Bits of every expert" in text
