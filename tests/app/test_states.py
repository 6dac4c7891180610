"""Every state without something to show says so and names the next step."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import session
from tests.app.conftest import APP, NAME, ROOT, words

PAGES = ("learn", "experts", "tokens", "budget", "quantize", "compare", "export")


def on_page(page: str, **address: str) -> AppTest:
    app = AppTest.from_file(APP, default_timeout=120)
    app.query_params.update(address)
    app.run()
    return app if page == "experts" else app.switch_page(str(ROOT / "pages" / f"{page}.py")).run()


@pytest.mark.parametrize("page", PAGES)
def test_without_a_run_each_page_leads_to_calibrate(page: str, places: Path, monkeypatch):
    monkeypatch.setattr(session.places, "BUNDLED_RUN", places / "nothing")
    app = on_page(page)
    assert not app.exception
    assert "There is no run yet" in words(app)
    app.button(key="next_step").click().run()
    assert app.title[0].value == "Calibrate"


@pytest.mark.parametrize("page", PAGES)
def test_a_run_that_is_gone_is_named(page: str, places: Path):
    app = on_page(page, run="gone")
    assert not app.exception
    assert "no run called 'gone'" in words(app)


@pytest.mark.parametrize("page", PAGES)
def test_a_damaged_run_is_told_as_that(page: str, places: Path, tiny_runs: Path):
    broken = places / "runs" / "broken"
    shutil.copytree(tiny_runs / NAME, broken)
    held = broken / "statistics.safetensors"
    held.write_bytes(held.read_bytes()[:200])
    app = on_page(page, run="broken")
    assert not app.exception
    assert "cannot be read" in words(app)


def test_the_sidebar_says_what_is_shown(open_app):
    app = open_app("export")
    side = "\n".join(element.value for element in app.sidebar.markdown)
    assert "2 banks × 8 experts, top-2" in side
    assert "**Samples** 8" in side
    assert app.sidebar.selectbox[0].value == NAME
