"""One dashboard, one browser and one tab for all walks: each takes longer to start than a walk takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.browser.server import chromium, running_app


@dataclass(frozen=True)
class Site:
    """A running dashboard: its address, its folders, a browser to look at it with, and the tab that walks share."""

    url: str
    runs: Path
    exports: Path
    browser: Any
    tab: Any


@pytest.fixture(scope="package")
def site(tmp_path_factory) -> Iterator[Site]:
    """The dashboard with empty folders of its own; the bundled run is open."""
    place = tmp_path_factory.mktemp("site")
    folders = {"MODE_RUNS": str(place / "runs"), "MODE_EXPORTS": str(place / "exports")}
    with running_app(folders) as url, chromium() as browser:
        yield Site(url, place / "runs", place / "exports", browser, browser.new_context().new_page())
