"""Budget's side panels: units, pinned experts, the price of each choice, and a card to fit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dashboard.charts import Axes
from dashboard.charts.memory import memory_bar
from dashboard.parts.budget import panels, pins
from dashboard.state.choices import Choices, from_address, to_address
from mode_core.allocation import Price, allocate
from mode_core.importance import cost_table
from mode_core.importance.projections import by_projection
from mode_core.memory import GIB, fit
from mode_core.prediction import Predictor
from mode_core.request import AllocationRequest, Quantizer
from mode_core.run import Run
from tests.app.conftest import NAME, words
from tests.app.test_budget import metric

PREDICTED = "Relative damage"


@pytest.fixture(scope="module")
def statistics(tiny_runs):
    return Run.open(tiny_runs / NAME).statistics


def test_pins_and_the_card_stand_in_the_address():
    chosen = Choices(
        AllocationRequest(pins=((0, 3, 4), (1, 7, 2))), Quantizer("gptq", attention_bits=4), gpu=24, context=32_768
    )
    assert from_address(to_address(chosen)) == (chosen, [])
    assert to_address(chosen)["pins"] == "0.3.4_1.7.2"
    read, problems = from_address({"pins": "0.x.2", "quantizer": "magic"})
    assert read == Choices() and len(problems) == 2


def test_rows_of_the_table_become_pins(statistics):
    axes = Axes.of(statistics)
    rows = [
        {"layer": axes.ticks[1], "expert": 2, "bits": 4},
        {"layer": axes.ticks[0], "expert": 1, "bits": 2},
        {"layer": axes.ticks[1], "expert": 2, "bits": 3},
        {"layer": axes.ticks[0], "expert": None, "bits": 2},
        {"layer": axes.ticks[0], "expert": 10_000, "bits": 2},
    ]
    assert pins.pins_of(axes, rows) == ((0, 1, 2), (1, 2, 3))


def test_a_pinned_expert_keeps_its_width(open_app, statistics):
    costs = cost_table(statistics, bits=(2, 3, 4))
    name = next(iter(costs))
    free = allocate(costs, average_bits=2.25)
    victim = int(np.flatnonzero(free.bits[name] == 2)[0])
    app = open_app("budget", method="mode", bits="2.25", pins=f"0.{victim}.4", panel="pins")
    assert not app.exception
    solved = allocate(costs, average_bits=2.25, pinned={name: {victim: 4}})
    assert metric(app, PREDICTED) == f"{Predictor(statistics).predict(solved).relative.value:.2g}"
    assert f"By this method's own costs {solved.objective:.3g} in all" in words(app)
    assert solved.bits[name][victim] == 4


def test_pins_of_another_model_wait_and_are_named(open_app):
    app = open_app("budget", pins="0.99.4_1.0.3", panel="pins")
    assert not app.exception
    assert "1 pins do not fit this run or these widths and wait" in words(app)
    app.button(key="unpin").click().run()
    assert "pins" not in app.query_params


@pytest.mark.parametrize("unit", ["layer", "projection", "expert_projection"])
def test_every_unit_is_solved_as_the_library_does(open_app, statistics, unit):
    costs = by_projection(cost_table(statistics, bits=(2, 3, 4)), statistics)
    app = open_app("budget", method="mode", bits="2.5", unit=unit)
    assert not app.exception
    solved = allocate(costs, average_bits=2.5, unit=unit)
    assert metric(app, PREDICTED) == f"{Predictor(statistics).predict(solved).relative.value:.2g}"
    assert f"By this method's own costs {solved.objective:.3g} in all" in words(app)


def test_prices_rise_with_the_unit(open_app):
    app = open_app("budget", bits="2.5", panel="prices")
    assert not app.exception
    table = next(frame.value for frame in app.dataframe if "one width for" in frame.value)
    each = table[table["budget for"] == "each layer"]["predicted damage"].to_numpy()
    assert len(each) == 4 and (np.diff(each[[0, 2, 3]]) >= -1e-12).all() and each[1] <= each[3] * (1 + 1e-9)


def test_a_refused_price_says_why():
    table = panels.price_table([Price("layer", "bank", None, "no budget")], 1.0)
    assert table["note"].tolist() == ["no budget"] and pd.isna(table["predicted damage"][0])


def test_a_card_divides_its_memory_and_gives_the_budget(open_app):
    app = open_app("budget", panel="card", gpu="8", context="2048")
    assert not app.exception, app.exception
    assert "A card of 8.59 GB" in words(app) and "stay free" in words(app)
    app.button(key="take-card").click().run()
    assert app.query_params["budget"] == ["MB"] or app.query_params["budget"] == "MB"
    assert metric(app, "Average bits") == "4.000"


def test_the_bar_adds_up_to_the_card():
    found = fit(8, rest=2 * GIB, cache=GIB, experts=3 * GIB, reserve=0.125)
    figure = memory_bar(found)
    assert sum(trace.x[0] for trace in figure.data) == pytest.approx(8 * GIB / 1e9)
    assert "1.07 GB stay free" in figure.layout.meta["summary"]
    large = memory_bar(fit(2, rest=2 * GIB, cache=0, experts=GIB, reserve=0.0))
    assert "too large by 1.07 GB" in large.layout.meta["summary"]


def test_no_rival_beats_the_chosen_method_by_its_own_costs(open_app, monkeypatch, statistics):
    from dashboard.state import solving

    seen = []
    real = solving.rivals
    monkeypatch.setattr(solving, "rivals", lambda: seen.append((solving.allocation().objective, real())) or seen[-1][1])
    for unit in ("expert", "projection"):
        assert not open_app("budget", bits="2.5", unit=unit, method="mode").exception
        best, others = seen[-1]
        assert [name for name, _, _ in others] == ["frequency", "mc", "mopeq", "random"]
        assert all(damage >= best * (1 - 1e-9) for _, _, damage in others)
