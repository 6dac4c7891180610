"""A made-up method and quantizer on the pages, and what the command line keeps in a run."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest

from dashboard.parts.calibrate.sample_picker import bundled_calibration
from dashboard.state import folders
from mode_core.calibration import CalibrationSettings, calibrate
from mode_core.cli import main
from mode_core.cli.arguments import read_quantizer, read_request
from mode_core.cli.main import build_parser
from mode_core.cli.sample_options import looked_at
from mode_core.request import AllocationRequest, Quantizer
from mode_core.run import Run
from tests.app.conftest import NAME, ROOT, words
from tests.unit.newcomers import newcomers


def test_a_made_up_method_and_quantizer_walk_through_the_pages(open_app):
    with newcomers():
        app = open_app("budget", method="loudest", quantizer="coarse")
        assert not app.exception and not app.error
        method = next(box for box in app.selectbox if box.label == "Importance by")
        assert method.value == "loudest" and "the loudest" in method.options
        assert "Twice as loud." in words(app)
        for page in ("quantize", "export", "compare", "experts", "tokens"):
            app = app.switch_page(str(ROOT / "pages" / f"{page}.py")).run()
            assert not app.exception, page
            if page == "quantize":
                quantizer = next(box for box in app.selectbox if box.label == "Quantizer")
                assert quantizer.value == "coarse" and "Coarse" in quantizer.options
        assert app.query_params["method"] == "loudest"


def test_a_made_up_signal_is_calibrated_and_chosen_on_the_pages(open_app, tiny_model, tiny_samples):
    with newcomers():
        settings = CalibrationSettings(signals=("text_attention", "first_come"), group_size=32, exemplars=0)
        calibrate(tiny_model, tiny_samples[:3], settings, run=Run.create(folders.runs_folder() / "new"))
        app = open_app("experts", run="new", signal="first_come")
        signal = next(box for box in app.selectbox if box.label == "Redundancy signal")
        assert not app.exception and signal.value == "first_come" and "First come, first kept" in signal.options
        for page in ("tokens", "budget", "calibrate"):
            app = app.switch_page(str(ROOT / "pages" / f"{page}.py")).run()
            assert not app.exception and not app.error, page
        offered = next(box for box in app.multiselect if box.label == "Redundancy signals")
        assert "First come, first kept" in offered.options


def test_what_the_command_line_keeps_appears_and_opens_and_the_other_way_round(open_app, tmp_path, capsys):
    folder = folders.runs_folder() / NAME
    app = open_app("budget", panel="kept")
    assert "keeps no allocation yet" in words(app)
    asked = [
        "--method",
        "frequency",
        "--average-bits",
        "2.5",
        "--pin",
        "0.3=4",
        "--shrinkage",
        "0.25",
        "--quantizer",
        "hqq",
    ]
    assert main(["allocate", "--run", str(folder), "--name", "from the shell", *asked, "--quiet"]) == 0
    app.run()
    assert app.dataframe[-1].value["name"].tolist() == ["from the shell"]
    app.button(key="kept:open").click().run()
    assert not app.exception and not app.error
    opened = app.session_state["choices"]
    request = AllocationRequest("frequency", budget=2.5, pins=((0, 3, 4),), shrinkage=0.25)
    assert opened.request == request and opened.quantizer.method == "hqq"
    app.text_input(key="kept:as").set_value("from the page").run()
    app.button(key="kept:keep").click().run()
    kept = Run.open(folder).allocations()
    assert all(
        np.array_equal(kept["from the page"].bits[bank], bits) for bank, bits in kept["from the shell"].bits.items()
    )
    capsys.readouterr()
    assert main(["show", "--run", str(folder)]) == 0
    assert "from the page" in capsys.readouterr().out
    app.multiselect(key="kept:two").set_value(["from the page", "from the shell"]).run()
    assert not app.exception and "0 have more bits in from the page and 0 in from the shell." in words(app)
    rows = app.dataframe[-1].value.set_index("name")
    assert rows["asked"]["from the shell"].startswith("frequency of all tokens, key ratio 20 %, 2.5 bits on average")
    assert rows["predicted"].notna().all() and (rows["bytes"] == kept["from the shell"].bytes).all()


@pytest.mark.parametrize(
    "address",
    [
        {"quantizer": "gptq", "attention": "4", "shared": "8", "form": "dequantized", "bits": "2.25"},
        {
            "group": "64",
            "symmetric": "no",
            "pins": "0.3.4_1.7.2",
            "method": "frequency",
            "widths": "2,4",
            "ratio": "35",
        },
        {"budget": "MB", "mb": "0.031234", "unit": "expert_projection", "shrinkage": "0.5", "least": "3.1"},
    ],
)
def test_the_command_line_of_the_export_page_asks_for_the_same(open_app, address):
    """Both lines, through the real parsers, come out as the page's own request and quantizer; gptq's samples too."""
    app = open_app("export", **address)
    assert not app.exception
    said = next(code.value for code in app.code if code.value.startswith("python -m mode_core allocate"))
    solve, write = (build_parser().parse_args(shlex.split(line)[3:]) for line in said.splitlines())
    statistics = Run.open(folders.runs_folder() / NAME).statistics
    chosen = app.session_state["choices"]
    request = chosen.request.fitted(statistics)
    if address.get("budget") == "MB":
        request = AllocationRequest.from_dict(request.to_dict() | {"budget": 31234.0, "measure": "bytes"})
    assert read_request(solve) == request
    samples = 64 if address.get("quantizer") == "gptq" else None
    asked = Quantizer.from_dict(chosen.quantizer.to_dict() | {"samples": samples}).fitted(statistics)
    assert read_quantizer(write).fitted(statistics) == asked
    assert read_quantizer(solve).fitted(statistics) == asked.of_experts
    if samples:
        ours = [sample.id for sample in bundled_calibration(samples)]
        assert len(ours) == samples and ours == [sample.id for sample in looked_at(write, read_quantizer(write))]
    assert solve.out == write.allocation and Path(solve.run).name == NAME
