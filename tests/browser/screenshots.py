"""Pictures of every page, light and dark, wide and narrow, for looking at them.

    python -m tests.browser.screenshots FOLDER [ADDRESS]

ADDRESS is what stands behind the question mark, such as "run=mine&bits=2.5". Each picture is as tall as its page.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.browser.server import chromium, running_app, settled

PAGES = ("", "calibrate", "budget", "quantize", "export")
WIDTHS = (1366, 390)
FIRST_HEIGHT = 768
TALLEST = 4000
_HEIGHT = "Math.max(...[...document.querySelectorAll('[data-testid=stMain]')].map(e => e.scrollHeight))"


def take(browser, url: str, page_name: str, address: str, scheme: str, width: int, folder: Path) -> None:
    """One picture, as tall as the page."""
    context = browser.new_context(viewport={"width": width, "height": FIRST_HEIGHT}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(180_000)
    page.goto(f"{url}/{page_name}?{address}")
    page.wait_for_selector("h1")
    settled(page)
    page.wait_for_timeout(1500)
    page.set_viewport_size({"width": width, "height": max(FIRST_HEIGHT, min(TALLEST, page.evaluate(_HEIGHT)))})
    page.wait_for_timeout(800)
    page.screenshot(path=folder / f"{page_name or 'experts'}-{scheme}-{width}.png")
    context.close()


def main() -> None:
    """Take all of them."""
    folder, address = Path(sys.argv[1]), (sys.argv[2:] or [""])[0]
    folder.mkdir(parents=True, exist_ok=True)
    with running_app({}) as url, chromium() as browser:
        for page in PAGES:
            for scheme in ("light", "dark"):
                for width in WIDTHS:
                    take(browser, url, page, address, scheme, width, folder)


if __name__ == "__main__":
    main()
