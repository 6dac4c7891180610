"""Every state without something to show says so and names the next step."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.state import folders
from mode_core.run import Run
from tests.app.conftest import APP, NAME, ROOT, payloads, words
from tests.synthetic import synthetic_statistics
from tests.synthetic_run import keep_run, synthetic_run, without_vision

PAGES = ("learn", "experts", "tokens", "budget", "quantize", "compare", "export")


def on_page(page: str, **address: str) -> AppTest:
    app = AppTest.from_file(APP, default_timeout=120)
    app.query_params.update(address)
    app.run()
    return app if page == "experts" else app.switch_page(str(ROOT / "pages" / f"{page}.py")).run()


@pytest.mark.parametrize("page", PAGES)
def test_without_a_run_each_page_leads_to_calibrate(page: str, places: Path, monkeypatch):
    monkeypatch.setattr(folders, "BUNDLED_RUN", places / "nothing")
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


@pytest.fixture(scope="module")
def states(tmp_path_factory, tiny_runs: Path) -> Path:
    """Runs: one as large as the largest models, one without pictures, one stopped half-way, one before its start."""
    folder = tmp_path_factory.mktemp("states")
    synthetic_run(folder / "large", 48, 128, tokens=4000)
    keep_run(folder / "text", without_vision(synthetic_statistics(2, 8, tokens=2000)))
    for name, held in (("half", True), ("begun", False)):
        shutil.copytree(tiny_runs / NAME, folder / name)
        run = Run.open(folder / name)
        run.write_info(run.info | {"state": "half done" if held else "begun"})
        if not held:
            run.write_statistics(empty_like(run.statistics), state="begun")
    return folder


def empty_like(statistics):
    """The same before the first sample."""
    banks = {
        name: replace(bank, arrays={key: 0 * array for key, array in bank.arrays.items()})
        for name, bank in statistics.banks.items()
    }
    return replace(statistics, banks=banks, samples=())


@pytest.mark.parametrize("page", (*PAGES, "calibrate"))
@pytest.mark.parametrize("run", ["bundled", "large", "text", "half"])
def test_every_page_opens_on_every_kind_of_run(page: str, run: str, states: Path, places: Path, monkeypatch):
    if run == "bundled" and not folders.BUNDLED_RUN.is_dir():
        pytest.skip("the bundled run is not here")
    monkeypatch.setenv("MODE_RUNS", str(states))
    app = on_page(page, **({} if run == "bundled" else {"run": run}))
    told = [each.value for each in app.error]  # a synthetic run has no model, and Quantize says so
    assert not app.exception and all("not on this machine" in each for each in told), told
    assert app.title[0].value == ("A router decides who works" if page == "learn" else page.capitalize())
    side = "\n".join(element.value for element in app.sidebar.markdown)
    expected = {"bundled": "4 banks × 32 experts", "large": "48 banks × 128 experts", "text": ", 0 % vision",
                "half": "**State** half done"}  # fmt: skip
    assert expected[run] in side
    assert len(words(app)) > 300
    told = words(app) + str([sent["readout"] for sent in payloads(app) if "readout" in sent])
    assert not re.search(r"\bNone\b(?! of|:)|\bnan\b", told)
    assert all(table.proto.placeholder == "" and table.proto.HasField("placeholder") for table in app.dataframe)
    if page == "calibrate":
        assert all(app.dataframe[0].value["model"])


@pytest.mark.parametrize("page", PAGES)
def test_a_run_without_a_finished_sample_leads_to_calibrate(page: str, states: Path, places: Path, monkeypatch):
    monkeypatch.setenv("MODE_RUNS", str(states))
    app = on_page(page, run="begun")
    assert not app.exception
    assert "was stopped before the first one" in words(app)
    app.button(key="next_step").click().run()
    assert app.title[0].value == "Calibrate"


def test_the_sidebar_says_what_is_shown(open_app):
    app = open_app("export")
    side = "\n".join(element.value for element in app.sidebar.markdown)
    assert "2 banks × 8 experts, top-2" in side
    assert "**Samples** 8" in side
    assert app.sidebar.selectbox[0].value == NAME
