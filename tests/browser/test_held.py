"""While a slider is held, the screen shows what the library computes for that value, and after it all the rest."""

from __future__ import annotations

import numpy as np
import pytest

from dashboard.parts.learn.lessons import LESSONS
from mode_core.allocation import allocate
from mode_core.importance import cost_table, frequencies
from mode_core.importance.key_tokens import key_tokens
from mode_core.run import Run
from tests.browser.server import ROOT, browser_path, settled
from tests.browser.walking import Walker, walker

RUN = ROOT / "sample_data" / "run"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browser_path() is None, reason="no chromium, chromium-browser or google-chrome on this machine"),
    pytest.mark.skipif(not (RUN / "run.json").is_file(), reason="the bundled run is not here"),
]
LAGGING = {"profile", "divergence", "expert", "errors"}
RATIO, BUDGET = "Key vision tokens (key ratio)", "Budget for all routed experts"
# Arrays that Plotly holds of one trace, as lists of rows.
_HELD = """([chart, trace, name]) => Array.from(
    document.querySelector(`[data-chart='${chart}']`)._fullData.at(trace)[name],
    row => typeof row === "number" ? row : Array.from(row))"""
_STILL = """async chart => {  // until it has not been drawn for a while
    const holder = document.querySelector(`[data-chart='${chart}']`);
    for (let seen = null; seen !== holder.dataset.updates; ) {
        seen = holder.dataset.updates;
        await new Promise(wake => setTimeout(wake, 700));
    }
}"""
# Count the times that a chart is laid out whole, and not its arrays alone.
_COUNT = """chart => {
    const holder = document.querySelector(`[data-chart='${chart}']`);
    holder.on("plotly_afterplot", () => { holder.wholes = (holder.wholes ?? 0) + 1; });
    return Number(holder.dataset.updates);
}"""
_WHOLES = """chart => {
    const holder = document.querySelector(`[data-chart='${chart}']`);
    return [Number(holder.dataset.updates), holder.wholes ?? 0];
}"""
# The pictures of a chart's maps: as a step left them, and as Plotly draws them all anew.
_REDRAWN = """async chart => {
    const holder = document.querySelector(`[data-chart='${chart}']`);
    const look = () => Array.from(holder.querySelectorAll(".hm image"), (one) => one.href.baseVal);
    const before = look();
    await Plotly.redraw(holder);
    return [before, look()];
}"""

# Keep what Plotly is asked to draw whole.
_WATCH = """() => {
    const { react } = Plotly;
    window.asked = [];
    Plotly.react = (holder, ...what) => { asked.push(holder.dataset.chart); return react(holder, ...what); };
}"""
# Marks, lines and title of a chart: as a step left them, and as Plotly draws them all anew.
_MARKS = """async chart => {
    const holder = document.querySelector(`[data-chart='${chart}']`);
    const look = () => [".scatterlayer", ".g-gtitle"].map((part) => holder.querySelector(part).innerHTML);
    const before = look();
    await Plotly.redraw(holder);
    return [before, look()];
}"""


def shown(person: Walker, chart: str, trace: int, name: str) -> np.ndarray:
    """What a chart holds once everything that was asked for is drawn."""
    person.page.evaluate(_STILL, chart)
    return np.array(person.page.evaluate(_HELD, [chart, trace, name]), float)


def value(person: Walker, label: str) -> float:
    return float(person.slider(label).input_value())


@pytest.fixture(scope="module")
def statistics():
    return Run.open(RUN).statistics


@pytest.mark.timeout(300)
def test_frequencies_follow_the_held_ratio(site, statistics):
    with walker(site) as person:
        person.open("", "Experts")
        settled(person.page)
        errors, begun = person.drawn("errors"), person.page.evaluate(_COUNT, "maps")
        with person.dragging(RATIO, 0.62):
            key = shown(person, "maps", 2, "text")
            updates, wholes = person.page.evaluate(_WHOLES, "maps")
            assert updates - begun > wholes  # by its arrays alone, and yet the same picture
            stepped, anew = person.page.evaluate(_REDRAWN, "maps")
            assert stepped == anew
            assert len(set(stepped)) >= 4
            ratio = value(person, RATIO) / 100
            assert 0.55 < ratio < 0.7
            expected = np.stack([share.key.size * share.key for share in frequencies(statistics, ratio).values()])
            np.testing.assert_allclose(key, expected, rtol=1e-5)
            assert person.drawn("errors") == errors  # the rest waits, and looks it
            waiting = person.page.locator("[data-waits]")
            assert set(waiting.evaluate_all("all => all.map(one => one.dataset.chart)")) == LAGGING
        person.await_drawing("errors", errors)
        person.page.wait_for_function(f"location.search.includes('ratio={round(100 * ratio)}')")
        np.testing.assert_allclose(shown(person, "maps", 2, "text"), expected, rtol=1e-5)
        settled(person.page)
        assert waiting.count() == 0
        person.slider(RATIO).focus()
        for key in ("ArrowRight", "ArrowLeft"):  # back where it was: everything comes again as it was
            person.page.keyboard.press(key)
        waiting.first.wait_for()
        waiting.first.wait_for(state="detached")
        assert waiting.count() == 0
        np.testing.assert_allclose(shown(person, "maps", 2, "text"), expected, rtol=1e-5)


@pytest.mark.timeout(300)
def test_bits_follow_the_held_budget_and_single_keys(site, statistics):
    costs, predictor = cost_table(statistics, bits=(2, 3, 4)), Run.open(ROOT / "sample_data" / "run").predictor()
    with walker(site) as person:
        person.open("budget?method=mode", "Budget")  # the paper's, whose numbers follow from these costs alone

        def agrees() -> None:
            bits = shown(person, "bits", 0, "customdata")
            asked = value(person, BUDGET)
            solved = allocate(costs, bits=(2, 3, 4), average_bits=asked)
            np.testing.assert_array_equal(bits, np.stack(list(solved.bits.values())))
            assert person.figure("Average bits").inner_text() == f"{solved.average_bits:.3f}"
            text = predictor.predict(solved).kl["text"].value
            assert person.figure("KL on text").inner_text() == f"{text:.2g}"

        with person.dragging(BUDGET, 0.3):
            agrees()
            assert "bits=" not in person.page.url
        person.page.wait_for_function("location.search.includes('bits=2.')")
        agrees()
        person.slider(BUDGET).focus()
        for _ in range(5):
            person.page.keyboard.press("ArrowRight")
        agrees()
        settled(person.page)
        assert float(person.address["bits"]) == pytest.approx(value(person, BUDGET))
        moved = person.page.get_by_text("Since the last setting").or_(person.page.get_by_text("No expert's bits moved"))
        assert moved.count() == 1


@pytest.mark.timeout(300)
def test_a_budget_that_cannot_be_met_shows_no_bits(site, statistics):
    """All experts of the first layer are pinned to 4 bits, so no smaller budget can be met there."""
    experts = next(iter(statistics)).shape.experts
    pins = "_".join(f"0.{expert}.4" for expert in range(experts))
    with walker(site) as person:
        person.open(f"budget?method=mode&scope=bank&bits=4&pins={pins}", "Budget")
        assert person.figure("Average bits").inner_text() == "4.000"
        tall = person.page.locator("[data-chart='bits']").bounding_box()["height"]
        with person.dragging(BUDGET, 0.4):
            person.page.locator(".readout").get_by_text("There is no allocation for these settings.").wait_for()
            person.page.evaluate(_STILL, "bits")
            assert person.page.evaluate("document.querySelector(`[data-chart='bits']`)._fullData.length") == 0
            assert person.page.locator("[data-chart='bits']").bounding_box()["height"] == pytest.approx(tall, abs=1)
            assert person.page.locator(".readout dl").count() == 0
        person.page.get_by_test_id("stAlert").first.wait_for()
        with person.dragging(BUDGET, 1.0):  # the way back, without a chart on the page that could report it
            pass
        person.page.locator("[data-chart='bits'][data-updates]").wait_for()
        settled(person.page)
        assert person.figure("Average bits").inner_text() == "4.000"


@pytest.mark.timeout(300)
def test_key_tokens_follow_the_held_ratio_and_a_path_the_token(site):
    run = Run.open(RUN)
    scores, routes = run.token_scores(), run.token_routes()
    first, second = list(scores)[:2]
    with walker(site) as person:
        person.open("tokens", "Tokens")
        with person.dragging(RATIO, 0.75):
            person.page.evaluate(_STILL, "token-picture")
            ratio = value(person, RATIO) / 100
            count = int(key_tokens(scores[first].scores["text_attention"][0], ratio).sum())
            assert person.page.locator(".readout strong").inner_text().startswith(f"{count} of ")
        person.page.wait_for_function("location.search.includes('ratio=')")
        settled(person.page)
        person.page.locator("[data-chart='token-picture']").focus()
        person.page.keyboard.press("ArrowDown")
        person.page.wait_for_function("location.search.includes('bank=1')")
        settled(person.page)
        person.page.locator("[data-chart='token-picture']").focus()
        person.page.keyboard.press("ArrowRight")
        person.page.wait_for_function(f"location.search.includes('sample={second}')")
        settled(person.page)
        assert person.page.locator(".readout strong").inner_text().endswith("in layer 1.")
        person.page.get_by_role("radio", name="Which experts did this token use?").click()
        person.page.locator("[data-chart='token-path'][data-updates]").wait_for()
        settled(person.page)
        person.page.evaluate(_WATCH)
        for token in (5, 4):
            drawn = person.drawn("token-path")
            person.page.locator(f"[data-part=chips] [data-token='{token}']").click()
            person.await_drawing("token-path", drawn)
        assert person.page.evaluate("asked") == []  # by what differs alone, and yet the same picture
        stepped, anew = person.page.evaluate(_MARKS, "token-path")
        assert stepped == anew and "token 4" in stepped[1]
        person.page.wait_for_function("location.search.includes('token=4')")
        settled(person.page)
        rows = np.array(person.page.evaluate(_HELD, ["token-path", 1, "customdata"]), float)
        used = routes[second].weights[:, 4] > 0
        np.testing.assert_array_equal(rows[:, 1], routes[second].experts[:, 4][used])
        assert person.page.get_by_role("spinbutton", name="Token").input_value() == "4"


@pytest.mark.timeout(300)
def test_a_lesson_follows_its_held_control(site, statistics):
    bank = list(statistics.banks)[1]
    with walker(site) as person:
        person.open("learn?step=4&bank=1", LESSONS[3].title)
        person.page.get_by_test_id("stButtonGroup").last.get_by_role("radio").first.click()
        control = "Try another key ratio ρ"
        person.slider(control).wait_for()
        settled(person.page)
        with person.dragging(control, 0.8):
            drawn = shown(person, "lesson-denoised", -1, "y")
            key = frequencies(statistics, value(person, control) / 100)[bank].key
            np.testing.assert_allclose(np.sort(drawn), np.sort(100 * key), rtol=1e-5)
            assert value(person, control) > 70
