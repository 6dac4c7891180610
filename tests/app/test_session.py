"""Choices stand in the address and come back from it; caches follow the run; results know when they are stale."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dashboard.shell import preload
from dashboard.state import address, folders, solving
from dashboard.state.choices import ESTIMATE, Choices, describe, from_address, same_estimate, to_address
from mode_core.allocation import SCOPES, UNITS, allocate
from mode_core.importance import METHODS, cost_table
from mode_core.quantization.quantizers import QUANTIZERS
from mode_core.quantization.widths import WIDTHS
from mode_core.request import AllocationRequest, Quantizer
from mode_core.run import Run
from tests.app.conftest import NAME, ROOT, words


def test_the_address_sets_every_choice_and_is_kept_on_a_page_change(open_app):
    address = {"ratio": "35", "method": "frequency", "bits": "2.5", "scope": "model", "widths": "2,4", "alpha": "0.5"}
    app = open_app("export", **address)
    assert not app.exception
    chosen = app.session_state["choices"]
    request = AllocationRequest(
        "frequency", key_ratio=0.35, budget=2.5, scope="model", widths=(2, 4), vision_weight=0.5
    )
    expected = Choices(request=request)
    assert chosen == expected
    assert dict(app.query_params) == {"run": NAME} | address


def test_defaults_stay_out_of_the_address(open_app):
    assert dict(open_app("export", ratio="20", bits="3").query_params) == {"run": NAME}


def test_a_senseless_address_is_named_and_left_out(open_app):
    app = open_app("export", ratio="lots")
    assert app.session_state["choices"] == Choices(request=AllocationRequest(shrinkage=0.85))
    assert "ratio=lots" in words(app)


def test_the_allocation_is_that_of_the_library(open_app):
    """The page's bits equal those of the library called by hand with the same settings."""
    app = open_app("export", ratio="30", bits="2.5")
    shown = app.session_state["choices"]
    statistics = Run.open(folders.runs_folder() / NAME).statistics
    costs = cost_table(statistics, key_ratio=0.30, bits=(2, 3, 4), shrinkage=0.85)
    by_hand = allocate(costs, bits=(2, 3, 4), average_bits=2.5)
    again = solving._solver(("test",), statistics, shown.request.unbudgeted, Quantizer(group_size=32)).solve(2.5)
    assert all(np.array_equal(again.bits[bank], by_hand.bits[bank]) for bank in by_hand.bits)
    assert f"{by_hand.average_bits:.2f} bits on average" in words(app)


def test_settings_are_told_in_one_line():
    said = "MODE, key ratio 20 %, 3 bits on average, widths 2 3 4"
    earlier = {"method": "mode", "key_ratio": 0.2, "average_bits": 3.0, "widths": [2, 3, 4]}
    assert describe(earlier) == describe({"request": AllocationRequest().to_dict()}) == said
    in_bytes = AllocationRequest(budget=12e6, measure="bytes")
    assert "12 MB" in describe({"request": in_bytes.to_dict()})
    assert "12 MB" in describe(earlier | {"budget_unit": "MB", "megabytes": 12.0})


def test_a_signal_that_was_not_measured_leads_back_to_the_papers(open_app):
    app = open_app("export", signal="diversity")
    assert not app.exception
    assert "do not fit this run" in words(app)
    app.button(key="reset").click().run()
    assert not app.exception and not app.error and dict(app.query_params) == {"run": NAME}


REQUESTS = {
    "key_ratio": st.integers(1, 100).map(lambda percent: percent / 100),
    "vision_weight": st.sampled_from([0.0, 0.5, 1.0, 2.25]),
    "shrinkage": st.sampled_from([0.0, 0.25, 1.0]),
    "min_support": st.integers(1, 50),
    "budget": st.integers(100, 1600).map(lambda hundredths: hundredths / 100),
    "widths": st.sets(st.sampled_from(WIDTHS), min_size=1).map(lambda found: tuple(sorted(found))),
    "equality": st.booleans(),
    "at_least": st.dictionaries(st.sampled_from(WIDTHS), st.integers(0, 9)).map(lambda found: tuple(found.items())),
    "method": st.sampled_from(sorted(METHODS)),
    "scope": st.sampled_from(SCOPES),
    "unit": st.sampled_from(UNITS),
    "pins": st.dictionaries(st.tuples(st.integers(0, 9), st.integers(0, 99)), st.sampled_from(WIDTHS), max_size=3).map(
        lambda found: tuple((*place, bits) for place, bits in found.items())
    ),
}
ROUNDINGS = {
    "method": st.sampled_from(sorted(QUANTIZERS)),
    "attention_bits": st.none() | st.sampled_from(WIDTHS),
    "group_size": st.none() | st.sampled_from([-1, 32, 128]),
    "symmetric": st.none() | st.booleans(),
}
SCREENS = {
    "request": st.builds(AllocationRequest, **REQUESTS),
    "quantizer": st.builds(Quantizer, **ROUNDINGS),
    "megabytes": st.none() | st.integers(1, 999_999).map(lambda tenths: tenths / 10),
    "budget_unit": st.sampled_from(["bits", "MB"]),
}


@settings(deadline=None, derandomize=True, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(st.builds(Choices, **SCREENS))
def test_every_choice_survives_its_address(chosen):
    assert from_address(to_address(chosen)) == (chosen, [])
    recommended = Choices().changed(method="fisher", scope="model", shrinkage=0.5)
    assert same_estimate(chosen, recommended) == (not {*ESTIMATE} & {*to_address(chosen, recommended)})
    if not same_estimate(chosen, recommended):
        assert from_address(to_address(chosen, recommended)) == (chosen, [])


@pytest.mark.parametrize(
    "address", ["ratio=0", "ratio=101", "bits=nan", "method=best", "widths=2,x", "symmetric=maybe"]
)
def test_senseless_values_are_named(address):
    name, _, value = address.partition("=")
    read, problems = from_address({name: value})
    assert read == Choices() and address in problems[0]


def test_pages_wait_for_no_model_library():
    """What the entry and every page import, ahead of the first visitor, must leave torch, transformers and scipy's
    solvers out."""
    ask = "import sys; from dashboard.shell import ahead; ahead.imports(); print(*sys.modules)"
    held = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert set(held.split()).isdisjoint({"torch", "transformers", "scipy.optimize", "scipy.cluster"})
    pages = (ROOT / "pages").glob("*.py")
    wanted = {
        match for page in pages for match in re.findall(r"^from (dashboard[.\w]*)", page.read_text(), re.MULTILINE)
    }
    assert {*wanted, "scipy.special"} <= {*held.split()}


def test_every_script_that_a_browser_is_to_have_at_once_is_streamlits():
    assert [name.partition(".")[0] for name in preload._names()] == list(preload._NEEDED)


def test_a_place_that_the_address_would_forget_is_refused():
    with pytest.raises(ValueError, match="is no part of an address"):
        address.put(colour="red")
