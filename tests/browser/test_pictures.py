"""Every chart of a page can be taken along as a picture, by keys as well: light, and as wide as a paper's column; and
all of a report's at once."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO

import pypdf
import pytest
from PIL import Image

from tests.browser.server import ROOT, browser_path, settled
from tests.browser.walking import walker

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browser_path() is None, reason="no chromium, chromium-browser or google-chrome on this machine"),
    pytest.mark.skipif(not (ROOT / "sample_data/run/run.json").is_file(), reason="the bundled run is not here"),
]
MM = 72 / 25.4  # points


@pytest.mark.timeout(300)
def test_pictures_of_a_chart_from_a_dark_page(site, tmp_path: Path):
    with walker(site, color_scheme="dark") as person:
        person.open("", "Experts")
        person.page.locator("[data-chart='maps'][data-updates]").wait_for()
        settled(person.page)
        charts, buttons = (person.page.locator(what).count() for what in ("[data-chart]", "[data-format='png']"))
        assert charts == buttons > 1
        for kind in ("png", "svg", "pdf"):
            button = person.page.locator(f"[data-chart='maps'] + .figure-foot [data-format='{kind}']")
            with person.page.expect_download() as download:
                button.focus()
                person.page.keyboard.press("Enter")
            assert download.value.suggested_filename == (
                f"bundled-maps-MODE-with-soft-Fisher-key-ratio-20-3-bits-on-average-widths-2-3-4.{kind}"
            )
            download.value.save_as(tmp_path / f"maps.{kind}")
        drawn = person.page.locator("[data-chart='maps']").bounding_box()
        person.to("Export")
        person.page.get_by_text("Paper kit: figures").click()
        with person.page.expect_download() as download:
            person.page.get_by_role("button", name="Download the paper kit").click()
        download.value.save_as(tmp_path / "kit.zip")
    with Image.open(tmp_path / "maps.png") as picture:
        assert picture.width == pytest.approx(2 * drawn["width"], abs=4)
        assert picture.convert("RGB").getpixel((1, 1)) == (255, 255, 255)
    svg = (tmp_path / "maps.svg").read_text(encoding="utf-8")
    assert svg.startswith("<svg") and "Denoised vision" in svg and 'width="178mm"' in svg
    assert "stroke-dasharray: 2px, 2px" not in svg  # the crosshair's dots
    assert len((tmp_path / "maps.pdf").read_bytes()) < 500_000
    page = in_two_columns(tmp_path / "maps.pdf")
    sizes = {image.image.size for image in page.images if image.image is not None}
    assert all(width >= 8 * 16 for width, _ in sizes) and sizes  # cells that no reader blurs
    with zipfile.ZipFile(tmp_path / "kit.zip") as kit:
        named = {Path(name).stem for name in kit.namelist() if name.endswith(".svg")}
        figures = [name for name in kit.namelist() if name.endswith(".pdf")]
        assert {"README.txt", "methods.tex", "references.bib"} <= set(kit.namelist())
        assert len(figures) > 1 and {Path(name).stem for name in figures} == named
        for name in figures:
            with kit.open(name) as one:
                assert len(in_two_columns(one).extract_text()) > 20


def in_two_columns(file: Path | IO[bytes]) -> pypdf.PageObject:
    """The page of a PDF 178 mm wide, the fonts of whose letters are in it."""
    page = pypdf.PdfReader(file).pages[0]
    assert float(page.mediabox.width) == pytest.approx(178 * MM, abs=0.5)
    fonts = [font.get_object() for font in page["/Resources"]["/Font"].values()]
    inner = [font["/DescendantFonts"][0].get_object()["/FontDescriptor"].get_object() for font in fonts]
    assert inner and all({"/FontFile2", "/FontFile3"} & set(each) for each in inner)
    return page
