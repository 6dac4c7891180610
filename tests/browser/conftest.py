"""One dashboard and one browser for all walks: both take longer to start than a walk takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.browser.server import chromium, running_app


@dataclass(frozen=True)
class Site:
    """A running dashboard: its address, its folders, and a browser to look at it with."""

    url: str
    runs: Path
    exports: Path
    browser: Any


@pytest.fixture(scope="package")
def site(tmp_path_factory) -> Iterator[Site]:
    """The dashboard with empty folders of its own; the bundled run is open."""
    place = tmp_path_factory.mktemp("site")
    folders = {"MODE_RUNS": str(place / "runs"), "MODE_EXPORTS": str(place / "exports")}
    with running_app(folders) as url, chromium() as browser:
        yield Site(url, place / "runs", place / "exports", browser)
