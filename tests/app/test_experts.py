"""The Experts page: figures of the open run, the ratio, views, and one expert close up; a large and a text-only run."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dashboard import charts
from dashboard.parts.experts import maps
from dashboard.parts.experts.maps import Arrangement
from dashboard.words.names import method as method_name
from mode_core.importance import cost_table, frequencies
from mode_core.importance.bias import starved
from mode_core.prediction import allocation_stability
from mode_core.request import AllocationRequest, Quantizer
from mode_core.run import Run
from tests.app.conftest import payloads, words
from tests.app.test_states import on_page
from tests.synthetic import synthetic_statistics
from tests.synthetic_run import keep_run, without_vision


def keep(folder: Path, name: str, statistics) -> str:
    """A finished run of synthetic statistics, by its name."""
    keep_run(folder / "runs" / name, statistics)
    return name


def denoised(app) -> object:
    """What the map of denoised vision shows, with plain controls."""
    return json.loads(app.get("plotly_chart")[0].proto.spec)["data"][2]["z"]


def test_the_page_opens_on_the_papers_ratio(open_app):
    app = open_app("experts")
    assert not app.exception and app.title[0].value == "Experts"
    assert app.segmented_control(key="widget:place:view").value == "load"
    maps = next(sent for sent in payloads(app) if sent.get("key") == "maps")
    assert maps["figure"]["layout"]["meta"]["at"] == [0, 0]
    assert not {"Share", "Load × uniform"} & set(charts.VIEWS.values())  # once two names of one picture


def test_choices_reach_the_address_and_the_figures(open_app, monkeypatch):
    monkeypatch.setenv("MODE_CONTROLS", "plain")
    app = open_app("experts")
    before = denoised(app)
    app.slider(key="ratio-plain").set_value(90.0).run()
    assert not app.exception
    assert app.query_params["ratio"] == ["90"] or app.query_params["ratio"] == "90"
    assert denoised(app) != before
    for name, value in {"view": "ratio", "order": "specialisation", "layers": "divergence", "tokens": "key"}.items():
        app.segmented_control(key=f"widget:place:{name}").set_value(value).run()
    app.number_input(key="experts-expert").set_value(5).run()
    assert not app.exception
    assert app.query_params["expert"] in ("5", ["5"]) and app.query_params["layers"] in ("divergence", ["divergence"])


def test_a_link_opens_the_same_expert(open_app):
    set_so = {"view": "rank", "order": "specialisation", "layers": "divergence", "width": "4", "tokens": "vision"}
    app = open_app("experts", bank="1", expert="3", ratio="40", **set_so)
    assert {name: str(app.segmented_control(key=f"widget:place:{name}").value) for name in set_so} == set_so
    assert app.number_input(key="experts-expert").value == 3
    assert app.selectbox(key="experts-bank").value.endswith("layers.2.mlp.experts")


def test_a_place_on_sorted_maps_chooses_the_expert_that_stands_there(places):
    statistics = synthetic_statistics(3, 16)
    app = on_page("experts", run=keep(places, "sorted", statistics), layers="divergence", order="specialisation")
    sent = next(sent for sent in payloads(app) if sent.get("key") == "maps")
    axes = charts.Axes.of(statistics)
    arranged = Arrangement("load", "text", 3, np.array([2, 0, 1]), np.tile(np.arange(16)[::-1], (3, 1)))
    chosen = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(maps.current_run, "select", lambda bank, expert: chosen.append((bank, expert)))
        maps.pick(axes, arranged, {"place": [0, 0]})
        for outside in ([3, 0], [0, 16], [-1, 0]):  # made up: nothing that the maps show
            maps.pick(axes, arranged, {"place": outside})
    assert chosen == [(axes.names[2], 15)]
    assert sent["figure"]["layout"]["meta"]["experts"] == [16, 16, 16]


def test_the_close_up_says_why_an_expert_has_its_width(places):
    statistics = synthetic_statistics(3, 16)
    app = on_page("experts", run=keep(places, "why", statistics), bank="1", expert="4", method="mode", bits="2.5")
    solved = AllocationRequest("mode", budget=2.5).solve(statistics)
    bank = list(statistics.banks)[1]
    costs = cost_table(statistics, bits=(2, 3, 4))[bank]
    given = solved.bits[bank]
    told = words(app)
    assert f"**{given[4]} bits** by MODE, at 2.5 bits on average" in told
    power = 3 * math.floor(math.log10(costs[4].max()) / 3)
    unit = {0: "", -3: "×10⁻³"}[power]
    for column, width in enumerate((2, 3, 4)):
        cost = f"{costs[4, column] / 10**power:.3g}"
        assert (f"| **{cost}** |" if width == given[4] else f"| {cost} |") in told
    gains = [max((costs[e, given[e] - 2] - costs[e, j]) / (j + 2 - given[e]) for j in range(given[e] - 1, 3))
             for e in range(16) if given[e] < 4]  # fmt: skip
    assert f"elsewhere in this layer the next bit saves {max(gains) / 10**power:.3g}{unit} at most" in told
    assert "leave out a part" not in told  # dear to compute: only when asked for
    app.session_state["why"] = True
    app.run()
    rows = app.dataframe[0].value
    rival = AllocationRequest("frequency", budget=2.5).solve(statistics)
    held = dict(zip(rows["method"], rows["bits"], strict=True))
    assert held[method_name("frequency")] == str(rival.bits[bank][4]) and held["MODE"] == str(given[4])
    stable = allocation_stability(statistics, AllocationRequest("mode", budget=2.5), Quantizer().fitted(statistics))
    same = 8 - round(8 * stable.changed[bank][4])
    assert f"{'Every' if same == 8 else f'{same} of 8'} tries that leave out a part of the samples give it" in words(
        app
    )


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
    assert fewer and f"counting gives **{len(fewer)}** of them fewer bits than the paper's MODE does" in words(app)
    assert sum(int(starved(share.text, share.all).sum()) for share in shares.values()) == total
    app.button(key="worst").click().run()
    assert (app.selectbox(key="experts-bank").value, app.number_input(key="experts-expert").value) in fewer


@pytest.mark.parametrize("page", ["experts", "budget"])
def test_a_run_without_pictures_says_so(places, page: str):
    app = on_page(page, run=keep(places, "text-only", without_vision(synthetic_statistics(2, 8))))
    assert not app.exception
    if page == "experts":
        assert "No vision tokens were routed in this run" in words(app)
        notes = next(sent for sent in payloads(app) if sent.get("key") == "expert")["figure"]["layout"]["annotations"]
        assert [note["text"] for note in notes][2] == "key vision tokens: <b>none came here</b>"


@pytest.mark.parametrize(("page", "leads"), [("experts", "budget"), ("budget", "quantize"), ("budget", "export")])
def test_a_page_leads_on_with_everything_as_it_is_set(open_app, page: str, leads: str):
    app = open_app(page, ratio="30", bits="2.5")
    app.button(key=f"next:{leads}").click().run()
    assert not app.exception
    assert app.title[0].value == leads.capitalize()
    assert app.query_params["ratio"] in ("30", ["30"]) and app.query_params["bits"] in ("2.5", ["2.5"])


def test_alike_and_together_are_made_when_asked_for(open_app, monkeypatch, tmp_path):
    app = open_app("experts", expert="3")
    assert "less their mean" not in words(app)
    app.session_state["pairs"] = True
    app.run()
    assert not app.exception and "Most alike: expert " in words(app) and " kept tokens of this expert " in words(app)
    monkeypatch.setattr(Run, "model_source", str(tmp_path / "gone"))
    app = open_app("experts", bank="1")  # the other is remembered
    app.session_state["pairs"] = True
    app.run()
    assert "are alike is not known" in words(app) and "Most alike" not in words(app)


def test_use_by_task_is_of_the_chosen_layer_and_old_runs_say_that_they_hold_none(places):
    statistics = synthetic_statistics(3, 16, tasks=3)
    made = keep(places, "tasks", statistics), keep(places, "old", replace(statistics, by_task={})), keep(
        places, "unnamed", replace(statistics, by_task={"": sum(statistics.by_task.values())}))  # fmt: skip

    def opened(name: str):
        app = on_page("experts", run=name, bank="2", expert="5", order="specialisation", task_tokens="vision")
        app.session_state["by-task"] = True
        return app.run()

    app = opened(made[0])
    sent = next(one for one in payloads(app) if one.get("key") == "tasks")["figure"]
    names = [note["text"] for note in sent["layout"]["annotations"]]
    whole = list(statistics)[2].vision_selections["text_attention"].sum()
    assert names[0] == f"<b>All tasks together</b> · {whole:,.0f} selections" and len(names) == 4
    assert sent["layout"]["title"]["text"] == "Layer 2: use by task, vision tokens"
    assert "experts, from text to denoised vision" in json.dumps(sent["layout"])
    assert "holds no use by task" in words(opened(made[1])) and "name no task" in words(opened(made[2]))
