"""A newcomer's method, signal and quantizer: a function, a row, and everything else follows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dashboard.words import names
from dashboard.words.glossary import found, terms
from mode_core.calibration import CalibrationSettings, calibrate
from mode_core.cli.main import build_parser
from mode_core.importance import METHODS, cost_table
from mode_core.importance.methods import GROUPS, NEEDS
from mode_core.probing.signals import NO_SIGNAL, SIGNALS
from mode_core.quantization import quantize_experts
from mode_core.quantization.quantizers import QUANTIZERS
from mode_core.quantization.widths import WIDTHS
from mode_core.request import AllocationRequest, Quantizer
from mode_core.statistics import EXTRAS
from tests.synthetic import synthetic_statistics
from tests.unit.newcomers import newcomers


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_every_method_is_told_everywhere(method):
    assert METHODS[method.name] is method and method.group in GROUPS and method.needs in ("", *NEEDS)
    assert method.description.endswith(".") and len(method.formula) > 3 and len(method.source) > 5
    assert names.method(method.name) == method.title
    assert len(method.title) <= 24 and method.scopes[0] in ("bank", "model")
    assert set(method.counts) <= set(WIDTHS)


def test_needs_are_extras_of_statistics_and_titles_are_different():
    assert set(NEEDS) == set(EXTRAS)
    for told in (METHODS.values(), SIGNALS.values(), QUANTIZERS.values()):
        assert len({one.title for one in told}) == len(told)


@pytest.mark.parametrize("signal", [*SIGNALS.values(), NO_SIGNAL], ids=[*SIGNALS, "none"])
def test_every_signal_is_told_everywhere(signal):
    assert names.signal(signal.name) == signal.title != signal.name
    assert signal.short and signal.score and signal.source
    if signal is not NO_SIGNAL:
        assert SIGNALS[signal.name] is signal and names.short_signal(signal.name) == signal.short
        assert hasattr(signal.measure, "row_weights") or hasattr(signal.measure, "scores")


@pytest.mark.parametrize("kind", QUANTIZERS.values(), ids=QUANTIZERS)
def test_every_quantizer_is_told_everywhere(kind):
    assert QUANTIZERS[kind.name] is kind and kind.words.endswith(".") and kind.looks_at and kind.zero_points
    assert kind.needs_samples or callable(kind.function)
    assert bool(kind.package) == bool(kind.install)


@pytest.mark.parametrize("table", ["redundancy signal", "importance", "quantizer", "shrinkage", "key ratio"])
def test_the_glossary_says_what_is_chosen(table):
    assert len(terms()[table]) > 40


def test_the_glossary_holds_every_registered_one():
    with newcomers():
        for table in (METHODS, SIGNALS, QUANTIZERS):
            assert all(len(terms()[one.title]) > 10 for one in table.values())
        assert "the loudest" in found("twice as loud")


def test_a_made_up_method_is_solved_and_taken_by_the_command_line():
    statistics = synthetic_statistics(2, 8, seed=1)
    with newcomers():
        costs = cost_table(statistics, "loudest")
        assert all(
            np.array_equal(table, 2 * cost_table(statistics, "frequency")[bank]) for bank, table in costs.items()
        )
        solved = AllocationRequest("loudest", budget=2.5).solve(statistics)
        plain = AllocationRequest("frequency", budget=2.5).solve(statistics)
        assert solved.proven_optimal and all(np.array_equal(solved.bits[b], plain.bits[b]) for b in plain.bits)
        assert names.method("loudest") == "the loudest"
        assert build_parser().parse_args(["allocate", "--run", "r", "--method", "loudest"]).method == "loudest"
    with pytest.raises(ValueError, match="no importance method 'loudest'"):
        AllocationRequest("loudest")


def test_a_made_up_signal_is_measured(tiny_model, tiny_samples):
    with newcomers():
        settings = CalibrationSettings(signals=("text_attention", "first_come"), sensitivity=False, token_scores_for=0)
        statistics = calibrate(tiny_model, tiny_samples[:2], settings)
        assert statistics.signals == ("text_attention", "first_come")
        found = AllocationRequest(signal="first_come", method="frequency_only", widths=(2, 3)).costs(statistics)
        assert all(np.isfinite(table).all() for table in found.values())
        options = build_parser().parse_args(["calibrate", "--out", "o", "--signals", "first_come"])
        assert options.signals == ["first_come"] and names.signal("first_come") == "First come, first kept"


def test_a_made_up_quantizer_fills_a_model_and_is_counted(tiny_model):
    with newcomers():
        bits = {name: np.full(bank.experts, 3) for name, bank in tiny_model.banks.items()}
        statistics = synthetic_statistics(1, 4)
        request = AllocationRequest(widths=(3,), budget=3.0)
        allocation = request.solve(statistics, Quantizer("coarse"))
        assert allocation.settings["quantizer"]["method"] == "coarse"
        asked = build_parser().parse_args(["quantize", "--run", "r", "--uniform", "3", "--quantizer", "coarse"])
        assert asked.quantizer == "coarse"
        held = allocation.__class__(bits, (3,), 0.0, 0.0, False, 0.0, 3.0)
        before = {name: bank.stacked("down").clone() for name, bank in tiny_model.banks.items()}
        with quantize_experts(tiny_model, held, Quantizer("coarse", group_size=16)) as quantized:
            assert quantized.quantizer.method == "coarse"
            assert any(not torch.equal(before[name], bank.stacked("down")) for name, bank in tiny_model.banks.items())
        assert quantized.packed_bytes == sum(
            Quantizer("rtn", group_size=16, symmetric=True).sizes(_shapes(tiny_model), (3,))[name][0] * bank.experts
            for name, bank in tiny_model.banks.items()
        )


def _shapes(loaded):
    from types import SimpleNamespace

    from mode_core.export.request import shape_of

    return [SimpleNamespace(name=name, shape=shape_of(bank)) for name, bank in loaded.banks.items()]
