"""What is sent of a figure that follows a slider: changes laid over what was sent before give the figure itself."""

from __future__ import annotations

import base64
import json

import numpy as np
import plotly.graph_objects as go
import plotly.io
import pytest

from dashboard import charts
from dashboard.charts.measures import FrequencyGrid
from dashboard.components.spec import Spec
from mode_core.importance import frequencies
from tests.charts.conftest import SIGNAL


def laid_over(whole: dict, change: dict) -> dict:
    """As figure.js does it."""

    def over(before: dict, now: dict) -> dict:
        return {name: value for name, value in (before | now).items() if value is not None}

    data = [
        {name: value for name, value in trace.items() if name != "new"}
        if trace.get("new")
        else over(whole["data"][place], trace)
        for place, trace in enumerate(change["data"])
    ]
    told = {name: change[name] for name in ("alt", "summary")}
    return {"data": data, "layout": over(whole["layout"], change["layout"])} | told


def plain(sent: dict) -> dict:
    """Without properties that say nothing."""
    return sent | {"layout": {name: value for name, value in sent["layout"].items() if value is not None}}


def maps(statistics, ratio: float, order: str = "index") -> go.Figure:
    grid = FrequencyGrid.of(statistics, frequencies(statistics, ratio, SIGNAL), ratio, SIGNAL)
    errors = charts.SensitivityGrid.of(statistics, 0.2, SIGNAL)
    return charts.expert_maps(grid, errors, 3, columns=charts.expert_order(grid, order), selected=(1, 2))


def bits(statistics, widths: list[int], before: list[int] | None = None) -> go.Figure:
    axes = charts.Axes.of(statistics)
    held = [
        None
        if row is None
        else {name: np.resize(row, size) for name, size in zip(axes.names, axes.experts, strict=True)}
        for row in (widths, before)
    ]
    return charts.bit_map(axes, held[0], (2, 3, 4), held[1])


def test_it_is_what_plotly_itself_would_send(statistics):
    figure = maps(statistics, 0.2)
    sent, plotlys = json.loads(Spec.of(figure).whole()), json.loads(plotly.io.to_json(figure))
    assert sent["data"] == plotlys["data"]
    assert sent["layout"] == {name: value for name, value in plotlys["layout"].items() if name != "template"}
    assert sent["summary"] == figure.layout.meta["summary"] and sent["alt"] == figure.layout.meta["alt"]


@pytest.mark.parametrize("order", ["index", "specialisation"])
def test_changes_over_the_old_figure_are_the_new_one(statistics, order):
    before, after = Spec.of(maps(statistics, 0.2, order)), Spec.of(maps(statistics, 0.7, order))
    change = json.loads(after.changes(before.digest()))
    assert laid_over(json.loads(before.whole()), change) == plain(json.loads(after.whole()))
    assert json.loads(before.whole())["data"] != json.loads(after.whole())["data"]


def test_what_a_ratio_does_not_touch_is_not_sent(statistics):
    before, after = Spec.of(maps(statistics, 0.2)), Spec.of(maps(statistics, 0.7))
    change = json.loads(after.changes(before.digest()))
    touched = [set(trace) for trace in change["data"]]
    assert touched[0] == touched[1] == set()  # text and all vision tokens do not depend on it
    assert "z" in touched[2]
    values = change["data"][2]["z"]
    assert np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"]).size == 30
    assert Spec.of(maps(statistics, 0.7)).changes(after.digest()) == after.changes(after.digest())
    assert all(not trace for trace in json.loads(after.changes(after.digest()))["data"])


def test_a_trace_that_comes_or_goes(statistics):
    none, dots = Spec.of(bits(statistics, [2, 3])), Spec.of(bits(statistics, [2, 3], [3, 3]))
    assert len(dots.traces) == len(none.traces) + 1
    for before, after in ((none, dots), (dots, none)):
        change = json.loads(after.changes(before.digest()))
        assert laid_over(json.loads(before.whole()), change) == plain(json.loads(after.whole()))


def test_a_property_that_goes_is_taken_out():
    before = Spec.of(go.Figure([go.Bar(x=[1], y=[2], text=["a"])], {"title": {"text": "T"}}))
    after = Spec.of(go.Figure([go.Bar(x=[1], y=[2])]))
    change = json.loads(after.changes(before.digest()))
    assert change["data"] == [{"text": None}] and change["layout"]["title"] is None
    assert laid_over(json.loads(before.whole()), change) == plain(json.loads(after.whole()))


def test_changes_name_the_figure_they_belong_to(statistics):
    before, after = Spec.of(maps(statistics, 0.2)), Spec.of(maps(statistics, 0.7))
    assert json.loads(after.changes(before.digest()))["over"] == before.digest().mark
    assert Spec.of(maps(statistics, 0.2)).digest().mark == before.digest().mark != after.digest().mark


def test_the_digest_is_small(statistics):
    digest = Spec.of(maps(statistics, 0.2)).digest()
    assert sum(map(len, digest.traces)) + len(digest.layout) < 100
