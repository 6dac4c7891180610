"""Tried in a browser: another name for this machine, a frame, a wrong token, and text that would be more than text."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import plotly.graph_objects as go
import pytest

from dashboard.charts import accuracy_by_task
from dashboard.parts.export.report import Section, report
from dashboard.shell.hosts import _addresses, loopback
from dashboard.state.measured import MODELS, Measurement, accuracy_frame
from dashboard.state.own_code import SWITCH
from mode_core.evaluation import ScoredAnswer, Scores
from mode_core.run import Run
from tests.browser.server import ROOT, browser_path, running_app, settled
from tests.browser.walking import walker

RUN = ROOT / "sample_data" / "run"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browser_path() is None, reason="no chromium, chromium-browser or google-chrome on this machine"),
    pytest.mark.skipif(not (RUN / "run.json").is_file(), reason="the bundled run is not here"),
]
SECRET = "a-token-nobody-guesses"
HOSTILE = (
    "![x](http://evil.test/a.png) <img src=http://evil.test/b.png> [l](http://evil.test) http://evil.test/c "
    "www.evil.test <a href='http://evil.test'>d</a> me@evil.test $x^2$ :material/bug_report: :red[r] **s**"
)
CONNECT = """url => new Promise(done => {
    const socket = new WebSocket(url, ["streamlit"]);
    socket.onopen = () => done("open");
    socket.onerror = () => done("refused");
})"""
# In what a page shows: whatever of the hostile text became more than text.
MADE = """() => [...document.querySelectorAll(
    'a[href*="evil"], img[src*="evil"], .katex, svg a, [aria-label="bug_report icon"], .stMarkdownColoredText')]
    .map(found => found.outerHTML)"""


def test_another_name_for_this_machine_drives_nothing(site):
    port = urlsplit(site.url).port
    options = ["--no-sandbox", "--disable-dev-shm-usage", "--host-resolver-rules=MAP evil.test 127.0.0.1"]
    with site.browser.browser_type.launch(executable_path=browser_path(), args=options) as browser:
        page = browser.new_page()
        answer = page.goto(f"http://evil.test:{port}/")
        assert answer.status == 403 and "MODE_HOSTS" in page.content() and not page.query_selector("#root")
        for name in ("evil.test", "127.0.0.1"):  # its own name, and across origins
            assert page.evaluate(CONNECT, f"ws://{name}:{port}/_stcore/stream") == "refused"
        page.goto(f"{site.url}/_stcore/health")
        assert page.evaluate(CONNECT, f"ws://127.0.0.1:{port}/_stcore/stream") == "open"


def test_no_page_may_frame_it(site):
    page = site.browser.new_page()
    page.set_content(f"<iframe src='{site.url}/'></iframe>")
    page.wait_for_timeout(1500)
    [frame] = page.frames[1:]
    assert not frame.query_selector("#root") and frame.url != f"{site.url}/"
    page.close()


def test_charts_offer_a_link_and_no_upload(site, tmp_path: Path):
    with walker(site, permissions=["clipboard-read", "clipboard-write"]) as person:
        person.open("budget?bits=2.5", "Budget")
        chart = person.page.locator("[data-chart=bits]")
        chart.hover()
        titles = chart.locator(".modebar-btn").evaluate_all("every => every.map(one => one.dataset.title)")
        assert "Copy link to this view" in titles and not [one for one in titles if "hare" in one or "loud" in one]
        chart.locator("[data-title='Copy link to this view']").click()
        chart.locator("[data-title='Link copied']").wait_for()
        assert person.page.evaluate("navigator.clipboard.readText()") == person.page.url


@pytest.mark.timeout(300)
def test_only_the_token_lets_in_and_from_another_address_no_code_can_be_switched_on(site, tmp_path: Path):
    """Two things of one server, as nothing takes longer than to start it; `test_names_of_uploaded_files_are_text` has
    the switch on this machine."""
    folders = {"MODE_RUNS": str(tmp_path), "MODE_ACCESS": "token", "MODE_TOKEN": SECRET}
    elsewhere = sorted(one for one in _addresses() if not loopback(one) and ":" not in one)
    with running_app(folders, "0.0.0.0") as here, site.browser.new_context() as context:
        page, host = context.new_page(), elsewhere[0] if elsewhere else "127.0.0.1"
        url = f"http://{host}:{urlsplit(here).port}"
        assert page.goto(f"{url}/calibrate?bits=2.5").status == 401
        assert page.evaluate(CONNECT, f"ws{url[4:]}/_stcore/stream") == "refused"
        page.get_by_label("Token").fill("not-the-token")
        page.get_by_role("button", name="Enter").click()
        page.get_by_text("That was not the token").wait_for()
        page.goto(f"{url}/calibrate?bits=2.5&token={SECRET}")
        page.get_by_role("heading", name="Calibrate", exact=True, level=1).wait_for(timeout=120_000)
        assert page.url == f"{url}/calibrate?bits=2.5" and SECRET not in page.content()
        page.goto(f"{url}/calibrate")  # and from then on
        page.get_by_role("heading", name="Calibrate", exact=True, level=1).wait_for(timeout=120_000)
        ask_the_hub(page)
        if not elsewhere:
            pytest.skip("this machine has no address but its own")
        assert page.get_by_text(SWITCH).count() == 0 and page.get_by_text("MODE_OWN_CODE=anywhere").count() == 1


def ask_the_hub(page: Any) -> None:
    """Name a model of the hub on Calibrate, whose code could be run; it is not fetched."""
    page.get_by_test_id("stButtonGroup").get_by_text("Hub id").click()
    page.get_by_label("Hub id", exact=True).last.fill("owner/name")
    page.keyboard.press("Enter")
    page.get_by_text("It may be tens of GB").wait_for()
    settled(page)


@pytest.fixture(scope="module")
def strange(site) -> Iterator[str]:
    """A copy of the bundled run in which every text that somebody else may have written is hostile; its name."""
    name = "www.evil.test"
    place = site.runs / name
    shutil.copytree(RUN, place)
    info = json.loads((place / "run.json").read_text())
    info["model"] |= {"name": HOSTILE, "source": f"/nowhere/{HOSTILE}"}
    info["refused"] = [{"sample": HOSTILE, "reason": HOSTILE}]
    (place / "run.json").write_text(json.dumps(info))
    records = json.loads((place / "samples.json").read_text())
    (place / "samples.json").write_text(json.dumps([one | dict.fromkeys(("text", "answer", "task"), HOSTILE)
                                                    for one in records]))  # fmt: skip
    for kept in measurement().records().items():
        Run.open(place).save_evaluation(*kept)
    yield name
    shutil.rmtree(place)


def measurement() -> Measurement:
    answers = tuple(ScoredAnswer(f"q{n}", "vision", HOSTILE, HOSTILE, "red", "red", True, 0.1, 0.5) for n in range(4))
    sizes = dict.fromkeys(MODELS, 100)
    settings = {"method": HOSTILE, "key_ratio": 0.2}
    return Measurement(dict.fromkeys(MODELS, Scores(answers)), sizes, sizes, 3, "seal", settings, 1e9, (HOSTILE,))


def untouched(page, address: str) -> None:
    """Open it; nothing was asked of anybody else, and nothing became more than text."""
    asked: list[str] = []

    def listen(request: Any) -> None:
        asked.append(request.url)

    page.on("request", listen)
    page.goto(address)
    page.wait_for_selector('[data-testid="stApp"]')
    settled(page)
    page.wait_for_timeout(500)
    page.remove_listener("request", listen)
    assert "evil.test" in page.content(), address  # it is shown, as it is written
    assert page.evaluate(MADE) == [], address
    assert not [url for url in asked if "evil" in (urlsplit(url).hostname or "")], address


@pytest.mark.timeout(300)
def test_text_of_strangers_is_text_on_every_page(site, strange: str):
    hostile = quote(HOSTILE)
    addresses = [f"{name}?run={strange}" for name in ("tokens", "quantize", "calibrate")]
    addresses += [f"?run={hostile}", f"budget?bits={hostile}&widths={hostile}"]
    with walker(site) as person:
        for address in addresses:
            untouched(person.page, f"{site.url}/{address}")


def test_names_of_uploaded_files_are_text(site, tmp_path: Path):
    name = "![x](http:evil.test) $x^2$ www.evil.test <b>.png"
    shutil.copy(next((ROOT / "sample_data/calibration/images").glob("*.png")), tmp_path / name)
    (tmp_path / f"no{name}").write_text("not a picture")
    with walker(site) as person:
        person.open("calibrate", "Calibrate")
        person.give_pictures([tmp_path / name, tmp_path / f"no{name}"])
        person.page.get_by_role("textbox", name=re.compile(r"evil\.test .<b>\.png")).first.wait_for()
        settled(person.page)
        assert "could not be used" in person.page.content() and person.page.evaluate(MADE) == []
        ask_the_hub(person.page)
        assert person.page.get_by_text(SWITCH).count() == 1  # on this machine
        assert person.page.get_by_text("MODE_OWN_CODE=anywhere").count() == 0


def test_a_report_shows_it_as_text_and_asks_nobody(site, tmp_path: Path):
    figure: go.Figure = accuracy_by_task(accuracy_frame(measurement()))
    sections = [Section(HOSTILE, [HOSTILE], [figure], [accuracy_frame(measurement())], HOSTILE, {HOSTILE: HOSTILE})]
    (tmp_path / "report.html").write_text(report(HOSTILE, HOSTILE, sections))
    page, asked = site.browser.new_page(), []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "report.html").as_uri())
    page.wait_for_selector(".js-plotly-plot .xtick")
    assert page.evaluate(MADE) == [] and page.locator(".xtick").first.text_content().startswith("![x](http")
    page.locator(".js-plotly-plot").first.hover()
    titles = page.locator(".modebar-btn").evaluate_all("every => every.map(one => one.dataset.title)")
    assert titles and not [one for one in titles if "hare" in one or "loud" in one]
    assert not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]
    page.evaluate("fetch('http://evil.test/').catch(() => {}); new Image().src = 'http://evil.test/a.png'")
    page.wait_for_timeout(300)
    assert page.evaluate("performance.getEntriesByType('resource').filter(one => one.name.includes('evil')"
                         " && one.responseStatus > 0).length") == 0  # fmt: skip
    page.close()
