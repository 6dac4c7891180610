"""Engine and card first: what each sets, what it is said to gain, and the commands that make and run it."""

from __future__ import annotations

import pytest

from dashboard.parts.budget.deployment import card_name
from mode_core.export.targets import ENGINES
from mode_core.memory import GIB, around_experts
from mode_core.run import Run
from tests.app.conftest import NAME, words
from tests.app.test_budget import headline, metric


def choose(app, engine: str):
    return app.selectbox(key="deploy:engine").set_value(engine).run()


@pytest.mark.parametrize(("engine", "unit"), [(name, target.finest_unit) for name, target in ENGINES.items()])
def test_an_engine_sets_what_it_can_read(open_app, engine, unit):
    app = choose(open_app("budget"), engine)
    assert not app.exception
    request = app.session_state["choices"].request
    assert set(request.widths) <= set(ENGINES[engine].widths)
    if unit in ("layer", "projection"):  # one budget a layer would leave nothing to choose
        assert (request.unit, request.scope, request.method) == (unit, "model", "mode_output")
    else:
        assert (request.unit, request.scope) == ("expert", "bank")
    assert app.query_params["form"] in (ENGINES[engine].name, [ENGINES[engine].name])


def test_the_gain_is_told_against_the_plain_format_that_fits(open_app, tiny_runs):
    app = choose(open_app("budget", bits="2.75"), "llama.cpp, Ollama, LM Studio")
    run, request = Run.open(tiny_runs / NAME), app.session_state["choices"].request
    ours = run.predictor().predict(request.solve(run.statistics)).relative.value
    plain = run.predictor().predict({bank.name: [2] * bank.shape.experts for bank in run.statistics}).relative.value
    assert f"Relative damage {ours:.2g} against {plain:.2g} with uniform 2 bits, the widest plain format" in words(app)
    code = "\n".join(one.value for one in app.code)
    assert "--unit projection" in code and "--target gguf" in code
    assert "llama-server -m " in code and "-c 8192" in code


def test_where_nothing_is_gained_it_says_so(open_app):
    app = choose(open_app("budget"), "vLLM")
    app.segmented_control(key="widget:scope").set_value("bank").run()
    assert headline(app) == "This equals 3 bits for every expert."
    assert "Every layer has a budget and one width of its own, which leaves nothing to choose." in words(app)
    assert "These bits are uniform 3 bits, the widest plain format" in words(app) and "nothing is gained" in words(app)


def test_a_card_sets_the_budget_and_is_named_as_it_is_sold(open_app):
    app = open_app("budget")
    app.selectbox(key="widget:gpu").set_value(24).run()
    assert not app.exception
    assert app.query_params["budget"] in ("MB", ["MB"]) and metric(app, "Average bits") == "4.000"
    assert "A card sold as 24 GB has 25.8 GB" in words(app) and "stay free" in words(app) and "GiB" not in words(app)
    assert card_name(24).startswith("24 GB: RTX 4090") and round(24 * GIB / 1e9, 1) == 25.8


def test_the_whole_model_is_among_the_figures(open_app, tiny_runs, tiny_model_folder):
    run = Run.open(tiny_runs / NAME)
    from mode_core.quantization import rest_bytes

    assert around_experts(tiny_model_folder) == rest_bytes(tiny_model_folder)
    app = open_app("budget", bits="2.5")
    experts = app.session_state["choices"].request.solve(run.statistics).bytes
    assert metric(app, "Whole model") != metric(app, "Routed experts") and experts
