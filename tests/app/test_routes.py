"""Which experts a token used: token and expert chosen by address and boxes, absent routes, the quantized path."""

from __future__ import annotations

import base64
import re

import numpy as np

from dashboard.state import folders
from mode_core.allocation import Allocation
from mode_core.calibration.routing import routes_of
from mode_core.models import load_model
from mode_core.quantization import quantize_experts
from mode_core.run import Run
from mode_core.samples import read_samples
from tests.app.conftest import NAME, finish, payloads, words
from tests.app.test_states import on_page
from tests.synthetic import synthetic_statistics
from tests.synthetic_run import keep_run, synthetic_run


def chips(app) -> dict:
    return next(sent for sent in payloads(app) if "who" in sent)


def path(app) -> dict:
    """The figure of the token's path."""
    return next(sent["figure"] for sent in payloads(app) if sent.get("key") == "token-path")


def test_a_token_and_an_expert_light_up(open_app, tiny_runs):
    routes = next(iter(Run.open(tiny_runs / NAME).token_routes().values()))
    app = open_app("tokens", look="routes", token="5", bank="1", expert="3")
    assert not app.exception
    sent = chips(app)
    assert sent["chosen"] == 5 and sent["who"] == "expert 3 of layer 2"
    lit = np.where(routes.experts[1] == 3, routes.weights[1], 0).sum(axis=1)
    np.testing.assert_allclose(sent["weights"], lit, atol=1e-3)
    packed = path(app)["data"][1]["customdata"]
    rows = np.frombuffer(base64.b64decode(packed["bdata"]), packed["dtype"]).reshape(-1, 3)
    shown = {(int(row), int(expert)) for row, expert, _ in rows}
    assert shown == {(row, int(e)) for row in range(2) for e in routes.experts[row, 5]}
    took = f"took {int((lit[~routes.vision] > 0).sum())} of {int((~routes.vision).sum())} text tokens"
    assert f"**Expert 3 of layer 2** {took}" in words(app)
    [picture] = sent["pictures"]
    assert [sent["words"][token] for token in picture["tokens"]] == [""] * int(routes.vision.sum())

    app.number_input(key="routes-token").set_value(0).run()
    app.selectbox(key="routes-bank").set_value(routes.banks[0]).run()
    assert not app.exception and chips(app)["chosen"] == 0
    heaviest = int(routes.experts[0, 0, 0])
    assert app.number_input(key="routes-expert").value == heaviest
    assert chips(app)["who"] == f"expert {heaviest} of layer 0"
    assert all(app.query_params[name] in ("0", ["0"]) for name in ("token", "bank"))


def test_an_address_that_names_no_token_is_told(open_app):
    app = open_app("tokens", look="routes", token="9999", sample="nobody")
    assert not app.exception
    assert re.search(r"The address says token='?9999'?, and here are 0 to \d+; left out", words(app))
    assert re.search(r"The address says sample='?nobody'?, and here are ", words(app))


def test_runs_without_routes_say_so_and_large_ones_open(places):
    keep_run(places / "runs" / "bare", synthetic_statistics(2, 8, tokens=2000))
    assert "This run keeps no routes of single tokens" in words(on_page("tokens", run="bare", look="routes"))
    synthetic_run(places / "runs" / "large", 14, 24, pictures=2, tokens=4000)
    app = on_page("tokens", run="large", look="routes")
    assert not app.exception and len(chips(app)["words"]) == 12 * 16 + 9
    assert "would have to be on this machine" in words(app)


def test_the_quantized_models_path_parts_where_it_does(places):
    app = on_page("tokens", look="routes", sample="colour-0000", token="70", bits="2", widths="2,3,4")
    finish(app.button(key="routes:go").click().run())
    assert not app.exception and not app.error
    sample = next(one for one in read_samples(folders.CALIBRATION) if one.id == "colour-0000")
    run, loaded = Run.open(folders.BUNDLED_RUN), load_model(folders.BUNDLED_MODEL, device="cpu")
    two = Allocation({b.name: np.full(b.shape.experts, 2) for b in run.statistics}, (2, 3, 4), 0, 0, True, 0, 2.0)
    before = routes_of(loaded, sample)
    with quantize_experts(loaded, two, "rtn", 128):
        parted = before.parted(routes_of(loaded, sample))
    assert parted.any() and f"Paths part in {100 * (parted > 0).mean():.1f} % of the sample's routings" in words(app)
    layers = ", ".join(str(row) for row in np.flatnonzero(parted[:, 70]))
    where = f"the path parts in layer{'s' * (',' in layers)} {layers}." if layers else "the path parts nowhere."
    assert where in words(app)
