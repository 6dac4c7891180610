"""The verb allocate: budgets of whole models, units by projection, pins and counts, and what each choice costs."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mode_core.allocation import Allocation
from mode_core.cli import main
from mode_core.run import Run
from mode_core.statistics import ExpertStatistics
from tests.conftest import BUNDLED
from tests.synthetic import synthetic_statistics


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    """A finished run of synthetic statistics: 2 banks × 8 experts; its model is the bundled one, for what surrounds."""
    statistics = synthetic_statistics(2, 8, bits=(2, 3, 4), seed=4)
    settings = {"group_size": 16, "symmetric": True}
    statistics = ExpertStatistics(statistics.banks, statistics.bits, statistics.signals, settings, statistics.samples)
    run = Run.create(tmp_path_factory.mktemp("verb") / "run", model={"source": str(BUNDLED / "model")})
    run.write_statistics(statistics, state="done")
    return str(run.path)


def told(capsys, folder: str, *options: str) -> dict:
    assert main(["allocate", "--run", folder, "--json", "--quiet", *options]) == 0
    return json.loads(capsys.readouterr().out)


def test_pins_and_counts_hold(folder, tmp_path, capsys):
    out = str(tmp_path / "a.json")
    pins = ["--pin", "0.5=4", "--pin", "1.0=2", "1.1=3"]
    told(capsys, folder, *pins, "--at-least", "3=2", "--at-most", "4=3", "--out", out)
    first, second = Allocation.load(out).bits.values()
    assert (first[5], second[0], second[1]) == (4, 2, 3)
    for bits in (first, second):
        assert (bits == 3).sum() >= 2
        assert (bits == 4).sum() <= 3


def test_prices_rise_from_finer_to_coarser(folder, capsys):
    found = told(capsys, folder, "--average-bits", "2.75", "--prices", "--method", "mode_output", "--scope", "model")
    price = {name: float(text.split()[0]) for name, text in found["prices"].items()}
    assert price["expert, model"] == pytest.approx(found["predicted_damage"], rel=1e-3)
    assert price["expert, model"] < price["layer, model"] < price["layer, bank"]
    assert price["expert, model"] < price["expert, bank"]
    assert price["expert_projection, model"] <= price["expert, model"]
    assert found["prices"]["layer, model"].endswith("times)")


def test_units_by_projection_divide_the_bits(folder, tmp_path, capsys):
    out = str(tmp_path / "p.json")
    told(capsys, folder, "--unit", "projection", "--average-bits", "2.7", "--out", out)
    bits = Allocation.load(out).bits
    assert all(own.shape == (8, 2) and (own == own[0]).all() for own in bits.values())
    assert any(own[0, 0] != own[0, 1] for own in bits.values())


def test_a_whole_model_fits_its_budget(folder, capsys):
    found = told(capsys, folder, "--model-mb", "4.4")
    assert found["model_bytes"] == found["bytes_beside_the_experts"] + found["packed_bytes"] <= 4.4e6
    fewer = told(capsys, folder, "--model-mb", "4.4", "--attention-bits", "4")
    assert fewer["bytes_beside_the_experts"] < found["bytes_beside_the_experts"]
    larger = told(capsys, folder, "--budget-mb", "0.09", "--quantizer", "hqq")
    assert larger["packed_bytes"] <= 0.09e6


def test_the_grid_decides_the_bytes_of_a_budget(folder, capsys):
    """Coarser groups keep fewer scales, and zero points cost memory; without the options the grid is the run's."""
    plain, same, coarser, zeros = (
        told(capsys, folder, *options)["packed_bytes"]
        for options in ([], ["--group-size", "16", "--no-asymmetric"], ["--group-size", "-1"], ["--asymmetric"])
    )
    assert coarser < plain == same < zeros
    assert told(capsys, folder, "--budget-mb", f"{plain / 1e6:.6f}")["packed_bytes"] == plain


@pytest.mark.parametrize(
    "options, text",
    [
        (
            ["--pin", "0-5"],
            "counted from 0, e.g. 0.5=4); got 0-5.",
        ),
        (["--pin", "7.0=2"], "has the banks 0 to 1"),
        (["--at-least", "3"], "--at-least takes BITS=COUNT"),
        (["--attention-bits", "4"], "belong to --model-mb"),
        (["--model-mb", "1"], "of them for all that is not a routed expert"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(folder, capsys, options, text):
    assert main(["allocate", "--run", folder, "--quiet", *options]) == 1
    assert text in capsys.readouterr().err


def test_the_old_way_still_works(folder, capsys):
    found = told(capsys, folder)
    assert found["proven_optimal"]
    assert np.isclose(found["average_bits"], 3.0)
    assert sum(found["experts_at_each_width"].values()) == 16
