"""Pictures of every page and its views, light and dark, wide and narrow, for looking at them.

    python -m tests.browser.screenshots FOLDER [ADDRESS [PAGE ...]]

ADDRESS is what stands behind the question mark, such as "run=mine&bits=2.5"; PAGEs narrow it down to some. Each picture
is as tall as its page; lessons are shown with a guess made, since the answer comes with it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.browser.server import chromium, running_app, settled

PAGES = ("experts", "learn", "calibrate", "tokens", "budget", "quantize", "compare", "export")
VIEWS = {  # page -> further views of it, as they stand in the address
    "learn": [f"step={step}" for step in range(2, 8)],
    "compare": ["section=check", "section=rankings", "section=runs", "section=paper"],
    "tokens": ["shown=signals", "look=routes"],
    "experts": ["view=ratio&order=specialisation&layers=divergence", "view=specialisation", "find=colour"],
    "budget": ["panel=pins", "panel=samples", "panel=prices", "panel=card&gpu=24"],
}
WIDTHS = (1366, 390)
FIRST_HEIGHT = 768
TALLEST = 4000
_HEIGHT = "Math.max(...[...document.querySelectorAll('[data-testid=stMain]')].map(e => e.scrollHeight))"


def take(browser, url: str, page_name: str, address: str, scheme: str, width: int, file: Path) -> None:
    """One picture, as tall as the page."""
    context = browser.new_context(viewport={"width": width, "height": FIRST_HEIGHT}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(180_000)
    page.goto(f"{url}/{'' if page_name == 'experts' else page_name}?{address}")
    page.wait_for_selector("h1")
    settled(page)
    if page.get_by_text("Predict first.").count():
        page.get_by_test_id("stButtonGroup").last.get_by_role("radio").first.click()
        settled(page)
    page.wait_for_timeout(1500)
    page.set_viewport_size({"width": width, "height": max(FIRST_HEIGHT, min(TALLEST, page.evaluate(_HEIGHT)))})
    page.wait_for_timeout(800)
    page.screenshot(path=file)
    context.close()


def main() -> None:
    """Take all of them."""
    folder, address = Path(sys.argv[1]), (sys.argv[2:] or [""])[0]
    folder.mkdir(parents=True, exist_ok=True)
    with running_app({}) as url, chromium() as browser:
        for page in sys.argv[3:] or PAGES:
            for view in ("", *VIEWS.get(page, ())):
                name = f"{page}-{view.replace('=', '-').replace('&', '-')}" if view else page
                query = "&".join(part for part in (address, view) if part)
                for scheme in ("light", "dark"):
                    for width in WIDTHS:
                        take(browser, url, page, query, scheme, width, folder / f"{name}-{scheme}-{width}.png")


if __name__ == "__main__":
    main()
