"""Traffic on the pages: a trace changes the frequencies, the bits, what is printed; bad ones say why."""

from __future__ import annotations

import base64
import io
import json
import shlex

import numpy as np
import pytest

from dashboard.charts import Axes, bit_map
from mode_core.allocation import Allocation
from mode_core.cli import main
from mode_core.request import AllocationRequest
from mode_core.run import Run
from mode_core.traffic import read_traffic, with_traffic
from tests.app.conftest import NAME, ROOT, payloads, words


@pytest.fixture
def trace(places, open_app) -> bytes:
    """Forty tokens that choose the first experts of every layer alone, as vLLM writes them."""
    banks = Run.open(places / "runs" / NAME).statistics.banks
    held = io.BytesIO()
    np.save(held, np.tile(np.arange(next(iter(banks.values())).shape.top_k), (40, len(banks), 1)).astype(np.uint8))
    return json.dumps({"choices": [{"routed_experts": base64.b64encode(held.getvalue()).decode()}]}).encode()


def upload(app, name: str, content: bytes):
    app.file_uploader[0].set_value((name, content, "application/json"))
    return app.run()


def drawn(app, key: str) -> list:
    return next(sent["figure"] for sent in payloads(app) if sent.get("key") == key)["data"][0]


def test_a_trace_changes_an_allocation_on_the_page(open_app, places, trace, capsys):
    app = open_app("budget", panel="traffic", method="mode", bits="2.5")
    before = drawn(app, "bits")
    app = upload(app, "served.jsonl", trace)
    assert not app.exception
    digest = app.session_state["choices"].request.traffic
    (kept,) = (places / "runs" / ".traffic").glob("*.json")
    assert kept.stem == digest and app.query_params["traffic"] in (digest, [digest])

    statistics = Run.open(places / "runs" / NAME).statistics
    served = with_traffic(statistics, read_traffic(kept, statistics))
    expected = AllocationRequest("mode", budget=2.5).fitted(served).solve(served)
    axes = Axes.of(statistics)
    figure = json.loads(bit_map(axes, expected.bits, expected.widths).to_json())["data"][0]
    assert drawn(app, "bits")["z"] == figure["z"] != before["z"]

    told = "**Frequencies** of the traffic served.jsonl, not of these samples"  # on every page, since all follow them
    assert told in words(app) and told in words(open_app("compare", traffic=digest))
    said = words(app)
    assert "Frequencies of traffic: served.jsonl, 1 request, all tokens as one kind" in said
    assert "without some of the samples" not in json.dumps(payloads(app))  # a trace has no folds
    assert "key and redundant vision tokens are not told apart, so that all vision tokens count" in said
    assert "How far traffic lies from calibration, by layer" in json.dumps(payloads(app))
    assert "Largest in layer" in said and "that this traffic uses" in said

    app = app.switch_page(str(ROOT / "pages" / "export.py")).run()
    command = next(block.value for block in app.code if "--traffic" in block.value).splitlines()[0]
    words_ = shlex.split(command)[3:]
    assert words_[words_.index("--traffic") + 1] == str(kept) and main(words_) == 0
    capsys.readouterr()
    told = Allocation.load(words_[words_.index("--out") + 1])
    assert told.settings["request"]["traffic"] == digest
    assert all((told.bits[bank] == expected.bits[bank]).all() for bank in expected.bits)


def test_on_experts_the_maps_are_of_the_traffic_and_a_deaf_method_is_said_to_be_one(open_app, trace):
    app = upload(open_app("experts", method="mopeq"), "served.jsonl", trace)
    assert not app.exception
    shown = drawn(app, "maps")["hovertext"]
    counts = np.frombuffer(base64.b64decode(shown["bdata"]), shown["dtype"]) if isinstance(shown, dict) else shown
    assert set(np.ravel(counts).tolist()) == {0.0, 40.0}
    assert "MoPEQ does not look at frequencies, so that no bit changes; MODE does." in words(app)
    app.selectbox(key="widget:traffic").set_value("").run()
    assert "Frequencies of traffic" not in words(app) and "traffic" not in app.query_params


def test_a_trace_that_cannot_be_read_and_a_profile_that_is_gone_are_told(open_app, places):
    app = upload(open_app("budget", panel="traffic", traffic="0" * 12), "served.jsonl", b'{"a": 1}\n{')
    assert not app.exception and not (places / "runs" / ".traffic").exists()
    assert "served.jsonl, line 2 is no JSON" in words(app)
    assert "says traffic=000000000000, which is not kept here for this model; left out" in words(app)
    app = upload(open_app("budget", panel="traffic"), "record.pt", b"cos\nsystem\n(S'exit'\ntR.")
    assert "record.pt is no file of numbers and tensors alone" in words(app)


def test_kept_profiles_that_are_damaged_are_listed_with_the_reason(open_app, places, trace):
    """Another model's is neither offered nor called damaged."""
    app = upload(open_app("budget", panel="traffic"), "served.jsonl", trace)
    (kept,) = (places / "runs" / ".traffic").glob("*.json")
    kept.with_name("half.json").write_bytes(kept.read_bytes()[:40])
    kept.with_name("short.json").write_text(json.dumps(json.loads(kept.read_text()) | {"text": [[1]]}))
    kept.with_name("other.json").write_text(json.dumps(json.loads(kept.read_text()) | {"model": "another"}))
    app.run()
    assert not app.exception and len(app.selectbox(key="widget:traffic").options) == 2
    told = words(app)
    assert "half.json: damaged: " in told and "short.json: damaged: " in told and "other.json" not in told
    assert "counts for each of its layers" in told
