"""What every walk through the dashboard needs: a page whose faults are kept, its pages, its address, a held slider."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.browser.server import settled

# Streamlit's own noise. Where a page is opened by its own address, its client asks for /<page>/_stcore/… before
# /_stcore/…, and a browser reports the first as not found. Nothing of the dashboard has this in its address.
HARMLESS = ("/_stcore/",)
PATIENCE = 180_000  # ms
WINDOW = {"width": 1366, "height": 900}


@dataclass
class Walker:
    """One person with one page, and what its console complained of."""

    page: Any
    url: str
    faults: list[str] = field(default_factory=list)

    def open(self, address: str, heading: str) -> None:
        """Go to `address` (below the dashboard's) by hand, and wait until everything is drawn."""
        self.page.goto(f"{self.url}/{address}")
        self.arrived(heading)

    def to(self, name: str) -> None:
        """Go to a page by the sidebar."""
        self.page.get_by_test_id("stSidebarNav").get_by_role("link", name=name, exact=True).click()
        self.arrived(name)

    def arrived(self, heading: str) -> None:
        """Wait for the page of that heading."""
        self.page.get_by_role("heading", name=heading, exact=True, level=1).wait_for()
        settled(self.page)

    def press(self, button: str) -> None:
        """Click a button, and wait until it was answered."""
        self.page.get_by_role("button", name=button, exact=True).click()
        settled(self.page)

    def slider(self, label: str) -> Any:
        """The control of that name."""
        return self.page.get_by_role("slider", name=label)

    def figure(self, label: str) -> Any:
        """The number of a readout under a label."""
        return self.page.locator(".readout dl > div").filter(has_text=label).locator("dd").first

    def drawn(self, chart: str) -> int:
        """How often a chart was drawn since the page was opened."""
        return int(self.page.locator(f"[data-chart='{chart}']").get_attribute("data-updates") or 0)

    def await_drawing(self, chart: str, seen: int) -> None:
        """Wait until it was drawn more often than `seen`."""
        self.page.wait_for_function(
            "([chart, seen]) => Number(document.querySelector(`[data-chart='${chart}']`).dataset.updates) > seen",
            arg=[chart, seen],
        )

    def give_pictures(self, files: Any) -> None:
        """Upload own pictures on Calibrate; the page has other uploaders as well."""
        self.page.get_by_test_id("stButtonGroup").get_by_text("Own pictures").click()
        uploader = self.page.get_by_test_id("stFileUploader").filter(has_text="Pictures")
        uploader.locator("input[type=file]").set_input_files(files)

    @property
    def address(self) -> dict[str, str]:
        """What stands behind the question mark."""
        return {key: values[0] for key, values in parse_qs(urlsplit(self.page.url).query).items()}

    @contextmanager
    def dragging(self, label: str, share: float) -> Iterator[None]:
        """Within the block the mouse still holds the slider, moved to this share of its length in small steps."""
        control, mouse = self.slider(label), self.page.mouse
        control.scroll_into_view_if_needed()
        box = control.bounding_box()
        low, high, value = (float(control.get_attribute(name) or 0) for name in ("min", "max", "value"))
        now = (float(control.input_value() or value) - low) / (high - low)
        middle = box["y"] + box["height"] / 2
        mouse.move(box["x"] + 8 + now * (box["width"] - 16), middle)  # the thumb's middle stays inside the bar
        mouse.down()
        mouse.move(box["x"] + 8 + share * (box["width"] - 16), middle, steps=12)
        try:
            yield
        finally:
            mouse.up()


@contextmanager
def walker(site: Any, color_scheme: str = "light", permissions: Sequence[str] = ()) -> Iterator[Walker]:
    """Somebody who has just come, in the tab that walks share: in a new one a browser compiles the page's scripts
    again, four seconds of a core. At the end of the block nothing may stand in the console."""
    page = site.tab
    page.context.clear_cookies()
    page.context.clear_permissions()
    page.context.grant_permissions(list(permissions))
    page.set_viewport_size(WINDOW)
    page.emulate_media(color_scheme=color_scheme)
    page.goto(f"{site.url}/_stcore/health")
    page.evaluate("localStorage.clear(); sessionStorage.clear()")
    with watched(page, site.url) as one:
        yield one


@contextmanager
def newcomer(site: Any, **context: Any) -> Iterator[Walker]:
    """The same with a browser context of their own: for two people at once, and for other devices."""
    own = site.browser.new_context(**{"viewport": WINDOW} | context)
    with own, watched(own.new_page(), site.url) as one:
        yield one


@contextmanager
def watched(page: Any, url: str) -> Iterator[Walker]:
    """The walker of a page whose console is looked at when the block ends."""
    page.set_default_timeout(PATIENCE)
    one = Walker(page, url)
    watch = {
        "console": lambda said: said.type == "error" and one.faults.append(f"{said.text} ({said.location['url']})"),
        "pageerror": lambda error: one.faults.append(str(error)),
    }
    for event, heard in watch.items():
        page.on(event, heard)
    try:
        yield one
    finally:
        for event, heard in watch.items():
            page.remove_listener(event, heard)
    found = [fault for fault in one.faults if not any(word in fault for word in HARMLESS)]
    assert not found, f"The browser's console says: {found}"
