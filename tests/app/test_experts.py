"""The Experts page: figures of the open run, the ratio, views, and one expert close up; a large and a text-only run."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from mode_core.importance import frequencies
from mode_core.importance.bias import starved
from mode_core.request import AllocationRequest
from tests.app.conftest import words
from tests.app.test_states import on_page
from tests.synthetic import synthetic_statistics
from tests.synthetic_run import keep_run, without_vision


def keep(folder: Path, name: str, statistics) -> str:
    """A finished run of synthetic statistics, by its name."""
    keep_run(folder / "runs" / name, statistics)
    return name


def test_the_page_opens_on_the_papers_ratio(open_app):
    app = open_app("experts")
    assert not app.exception and app.title[0].value == "Experts"
    assert re.search(r"Rank of expert 0 among 8: \*\*\d\*\* for text", words(app))
    assert app.segmented_control(key="widget:place:view").value == "share"


def test_choices_reach_the_address_and_the_figures(open_app, monkeypatch):
    monkeypatch.setenv("MODE_CONTROLS", "plain")
    app = open_app("experts")
    before = words(app)
    app.slider(key="ratio-plain").set_value(90.0).run()
    assert not app.exception
    assert app.query_params["ratio"] == ["90"] or app.query_params["ratio"] == "90"
    assert words(app) != before
    app.segmented_control(key="widget:place:view").set_value("difference").run()
    app.segmented_control(key="widget:place:order").set_value("specialisation").run()
    app.number_input(key="experts-expert").set_value(5).run()
    assert not app.exception
    assert "Rank of expert 5 among 8" in words(app)


def test_a_link_opens_the_same_expert(open_app):
    app = open_app("experts", bank="1", expert="3", ratio="40", view="rank", order="specialisation", width="4")
    shown = {name: app.segmented_control(key=f"widget:place:{name}").value for name in ("view", "order", "width")}
    assert shown == {"view": "rank", "order": "specialisation", "width": 4}
    assert app.number_input(key="experts-expert").value == 3
    assert app.selectbox(key="experts-bank").value.endswith("layers.2.mlp.experts")
    assert "Rank of expert 3" in words(app)


def test_the_headline_says_what_counting_gives_and_leads_to_an_expert_of_which_it_is_true(places):
    statistics = synthetic_statistics(12, 64, unsupported=1)
    app = on_page("experts", run=keep(places, "large", statistics))
    assert not app.exception
    told = re.search(r"\*\*(\d+) of the 96 busiest text experts .* (\d+) to (\d+)\)", words(app))
    total, low, high = map(int, told.groups())
    assert low <= total <= high
    mode, counted = (AllocationRequest(method).solve(statistics).bits for method in ("mode", "frequency"))
    shares = frequencies(statistics, 0.2)
    fewer = {
        (bank, int(expert))
        for bank, share in shares.items()
        for expert in np.flatnonzero(starved(share.text, share.all) & (counted[bank] < mode[bank]))
    }
    assert fewer and f"counting gives **{len(fewer)}** of them fewer bits than MODE does" in words(app)
    assert sum(int(starved(share.text, share.all).sum()) for share in shares.values()) == total
    app.button(key="worst").click().run()
    assert (app.selectbox(key="experts-bank").value, app.number_input(key="experts-expert").value) in fewer


@pytest.mark.parametrize("page", ["experts", "budget"])
def test_a_run_without_pictures_says_so(places, page: str):
    app = on_page(page, run=keep(places, "text-only", without_vision(synthetic_statistics(2, 8))))
    assert not app.exception
    if page == "experts":
        assert "No vision tokens were routed in this run" in words(app)
        assert "no key vision tokens came here" in words(app)


@pytest.mark.parametrize(("page", "leads"), [("experts", "budget"), ("budget", "quantize"), ("budget", "export")])
def test_a_page_leads_on_with_everything_as_it_is_set(open_app, page: str, leads: str):
    app = open_app(page, ratio="30", bits="2.5")
    app.button(key=f"next:{leads}").click().run()
    assert not app.exception
    assert app.title[0].value == leads.capitalize()
    assert app.query_params["ratio"] in ("30", ["30"]) and app.query_params["bits"] in ("2.5", ["2.5"])
