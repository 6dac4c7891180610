"""A request and a quantizer: checked at birth, back from dictionary and command line, solved as by hand."""

from __future__ import annotations

import json
import shlex
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mode_core.allocation import SCOPES, UNITS, Allocation, allocate, uniform_allocation
from mode_core.calibration import CalibrationSettings, LogitKLSettings
from mode_core.cli.arguments import command_of, read_quantizer, read_request, read_settings
from mode_core.cli.main import build_parser
from mode_core.errors import SettingsError
from mode_core.importance import METHODS, cost_table
from mode_core.importance.methods import FOLLOWED
from mode_core.probing.signals import SIGNALS
from mode_core.quantization.quantizers import QUANTIZERS
from mode_core.quantization.sizes import expert_bytes
from mode_core.quantization.widths import WIDTHS
from mode_core.request import AllocationRequest, GptqSettings, Quantizer
from mode_core.statistics import EXTRAS
from tests.synthetic import synthetic_statistics, with_audio

SHARES = st.floats(0, 1, allow_nan=False)
COUNTS = st.dictionaries(st.sampled_from(WIDTHS), st.integers(0, 9), max_size=3).map(lambda held: tuple(held.items()))
PINS = st.dictionaries(st.tuples(st.integers(0, 40), st.integers(0, 200)), st.sampled_from(WIDTHS), max_size=4)
REQUESTS = st.builds(
    AllocationRequest,
    method=st.sampled_from(sorted(METHODS)),
    key_ratio=st.integers(1, 100).map(lambda percent: percent / 100),
    signal=st.sampled_from(["text_attention", "diversity", "none"]),
    vision_weight=st.floats(0, 100, allow_nan=False),
    audio_weight=st.floats(0, 100, allow_nan=False),
    shrinkage=SHARES,
    min_support=st.integers(1, 10**6),
    widths=st.sets(st.sampled_from((0, *WIDTHS, 16)), min_size=1).map(tuple),
    scope=st.sampled_from(SCOPES),
    unit=st.sampled_from(UNITS),
    equality=st.booleans(),
    at_least=COUNTS,
    at_most=COUNTS,
    pins=PINS.map(lambda held: tuple((*place, bits) for place, bits in held.items())),
).flatmap(
    lambda request: st.one_of(
        st.floats(0, 16, allow_nan=False).map(lambda bits: replace(request, budget=bits)),
        st.tuples(st.integers(1, 10**12), st.sampled_from(["bytes", "model_bytes"])).map(
            lambda size: replace(request, budget=float(size[0]), measure=size[1])
        ),
    )
)
QUANTIZED = st.builds(
    Quantizer,
    method=st.sampled_from(sorted(QUANTIZERS)),
    group_size=st.none() | st.sampled_from([-1, 1, 32, 4096]),
    symmetric=st.none() | st.booleans(),
    attention_bits=st.none() | st.sampled_from((*WIDTHS, 16)),
    shared_bits=st.none() | st.sampled_from(WIDTHS),
    samples=st.none() | st.integers(1, 999),
    gptq=st.builds(
        GptqSettings,
        damping=st.floats(0.001, 0.5),
        weighting=st.sampled_from(["tokens", "modality"]),
        key_ratio=st.integers(1, 100).map(lambda percent: percent / 100),
        answers=st.booleans(),
        least_tokens=st.integers(1, 99),
    ),
)
CALIBRATED = st.builds(
    CalibrationSettings,
    bits=st.sets(st.sampled_from((0, *WIDTHS)), min_size=1).map(sorted),
    signals=st.lists(st.sampled_from(sorted(SIGNALS)), min_size=1, unique=True),
    group_size=st.sampled_from([-1, 1, 32, 4096]),
    symmetric=st.booleans(),
    gradients=st.booleans(),
    imatrix=st.booleans(),
    imatrix_key_ratio=st.integers(1, 100).map(lambda percent: percent / 100),
    gradient_temperature=st.floats(1, 9),
    checkpoint_seconds=st.floats(0, 1e6),
    exemplars=st.integers(0, 64),
    **{
        name: st.integers(1, 99)
        for name in ("batch_size", "token_scores_for", "gradient_tokens", "gradient_draws", "hessian_probes", "seed",
                     "checkpoint_samples")
    },
).flatmap(lambda made: st.booleans().map(lambda on: replace(made, sensitivity=on or made.gradients)))  # fmt: skip
FIXED = {
    "calibrate": ["--out", "o"],
    "allocate": ["--run", "r"],
    "export": ["--run", "r", "--allocation", "a", "--target", "t", "--out", "o"],
}


def parsed(verb: str, words: list[str]):
    return build_parser().parse_args([verb, *FIXED[verb], *words])


@settings(deadline=None, derandomize=True, max_examples=40)
@given(CALIBRATED)
def test_what_is_measured_comes_back_from_its_dictionary_and_from_the_real_command_line(made):
    assert CalibrationSettings.from_dict(json.loads(json.dumps(made.to_dict()))) == made
    assert read_settings(CalibrationSettings(), parsed("calibrate", made.to_arguments())) == made


def test_every_option_of_measuring_is_a_field_and_all_signals_are_one_word():
    assert [one.name for one in fields(CalibrationSettings) if not one.metadata["flag"]] == ["stack_bytes"]
    measured = read_settings(CalibrationSettings(), parsed("calibrate", ["--signals", "all"]))
    assert measured.signals == tuple(SIGNALS)
    asked = parsed("calibrate", ["--logit-kl-positions", "answers", "--logit-kl-key-ratio", "0.3"])
    assert read_settings(LogitKLSettings(), asked) == LogitKLSettings(0.3, positions="answers")


@settings(deadline=None, derandomize=True, max_examples=60)
@given(REQUESTS)
def test_a_request_comes_back_from_its_dictionary_and_from_the_real_command_line(request):
    again = AllocationRequest.from_dict(json.loads(json.dumps(request.to_dict())))
    assert again == request and again.digest == request.digest
    assert read_request(parsed("allocate", request.to_arguments())) == request


@settings(deadline=None, derandomize=True, max_examples=60)
@given(QUANTIZED)
def test_a_quantizer_comes_back_from_its_dictionary_and_from_the_real_command_line(quantizer):
    again = Quantizer.from_dict(json.loads(json.dumps(quantizer.to_dict())))
    assert again == quantizer and again.digest == quantizer.digest
    assert read_quantizer(parsed("export", quantizer.to_arguments())) == quantizer
    counted = read_quantizer(parsed("allocate", quantizer.of_experts.to_arguments()))
    assert counted.grid == quantizer.grid


def test_what_is_on_its_default_is_not_said_and_everything_else_changes_the_digest():
    assert AllocationRequest().to_arguments() == Quantizer().to_arguments() == []
    changed = [replace(AllocationRequest(), **{name: value}) for name, value in CHANGES.items()]
    assert len({request.digest for request in (AllocationRequest(), *changed)}) == len(CHANGES) + 1
    assert all(request.to_arguments() for request in changed)


CHANGES = {
    "method": "frequency", "key_ratio": 0.3, "signal": "none", "vision_weight": 0.5, "audio_weight": 0.5,
    "shrinkage": 0.5,
    "min_support": 2, "widths": (1, 2), "scope": "model", "unit": "layer", "budget": 2.5, "equality": True,
    "at_least": ((3, 1),), "at_most": ((4, 2),), "pins": ((0, 1, 2),),
}  # fmt: skip


@pytest.mark.parametrize(
    "wrong, text",
    [
        ({"method": "best"}, "no importance method 'best'; choose one of: mode"),
        ({"key_ratio": 0.0}, r"key_ratio must lie in \(0, 1\]; got 0.0"),
        ({"vision_weight": -1.0}, "vision_weight must be a number of at least 0; got -1.0"),
        ({"shrinkage": 1.5}, r"shrinkage must lie in \[0, 1\]; got 1.5"),
        ({"min_support": 0}, "min_support counts tokens and must be at least 1; got 0"),
        ({"widths": (2, 2)}, r"widths must be different ones of \(0, 1, 2, 3, 4, 5, 6, 8, 16\); got \(2, 2\)"),
        ({"widths": (7,)}, r"got \(7,\)"),
        ({"scope": "world"}, "scope must be one of bank, model; got 'world'"),
        ({"unit": "token"}, "unit must be one of expert, "),
        ({"measure": "grams"}, "measure must be one of bits, bytes, model_bytes; got 'grams'"),
        ({"budget": float("nan")}, "budget must be a number of at least 0, in bits; got nan"),
        ({"pins": ((0, 3, 4), (0, 3, 2))}, "bank 0, expert 3 at 4 bits and 2. Keep one of them"),
        ({"pins": ((-1, 3, 4),)}, "by numbers of at least 0; got bank -1"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_at_birth(wrong, text):
    with pytest.raises(ValueError, match=text):
        AllocationRequest(**wrong)


@pytest.mark.parametrize(
    "wrong, text",
    [
        ({"method": "awq"}, "no quantizer 'awq' here; choose one of: rtn, hqq, gptq"),
        ({"group_size": 0}, r"group_size must be a positive number of input channels, or -1 \(per channel\); got 0"),
        ({"attention_bits": 7}, "attention_bits must be one of .* or None for untouched; got 7"),
        ({"samples": 0}, "samples must be at least 1, or None for all of them; got 0"),
        ({"gptq": {"damping": 2.0}}, "damping must lie between 0 and 1; got 2.0"),
    ],
)
def test_a_quantizer_that_makes_no_sense_is_refused_at_birth(wrong, text):
    with pytest.raises(ValueError, match=text):
        Quantizer(**wrong)


def test_a_record_of_something_else_names_the_field():
    with pytest.raises(ValueError, match="AllocationRequest has no 'colour'; expected some of method, key_ratio"):
        AllocationRequest.from_dict({"colour": "red"})
    for odd in ({"method": ["mode"]}, {"pins": [[1, 2]]}, {"widths": 3}, {"at_least": [["²", 1]]}):
        with pytest.raises(SettingsError, match="AllocationRequest cannot be made of"):
            AllocationRequest.from_dict(odd)
    with pytest.raises(ValueError, match=r"key_ratio must lie in \(0, 1\]; got 'x'"):
        AllocationRequest.from_dict({"key_ratio": "x"})
    with pytest.raises(SettingsError, match="Quantizer cannot be made of"):
        Quantizer.from_dict({"gptq": {"no such": 1}})


def test_a_request_is_solved_as_by_hand():
    statistics = synthetic_statistics(2, 8, seed=4)
    bank = list(statistics.banks)[1]
    request = AllocationRequest(
        "frequency", widths=(2, 3, 4), scope="model", budget=2.75, at_least={3: 2}, pins=((1, 5, 4),), shrinkage=0.25
    )
    found = request.solve(statistics, Quantizer(group_size=16))
    costs = cost_table(statistics, "frequency", bits=(2, 3, 4), shrinkage=0.25)
    sizes = {each.name: expert_bytes(each.shape, (2, 3, 4), 16) for each in statistics}
    asked = {"at_least": {3: 2}, "pinned": {bank: {5: 4}}, "sizes": sizes}
    by_hand = allocate(costs, (2, 3, 4), 2.75, "model", **asked)
    assert found.bytes == by_hand.bytes and found.objective == by_hand.objective
    assert all(np.array_equal(found.bits[name], bits) for name, bits in by_hand.bits.items())
    assert AllocationRequest.from_dict(found.settings["request"]) == request
    assert Quantizer.from_dict(found.settings["quantizer"]) == Quantizer(group_size=16, symmetric=True)


def test_sizes_in_bytes_and_of_whole_models_are_kept():
    statistics = synthetic_statistics(2, 8, seed=4)
    experts = AllocationRequest().solve(statistics).bytes
    alone = AllocationRequest(budget=float(experts), measure="bytes").solve(statistics)
    whole = AllocationRequest(budget=experts + 1000.0, measure="model_bytes").solve(statistics, None, 1000)
    assert alone.bytes <= experts and whole.settings["fixed_bytes"] == 1000
    assert all(np.array_equal(alone.bits[bank], whole.bits[bank]) for bank in statistics.banks)


def test_an_allocation_of_an_earlier_version_tells_its_request(tmp_path):
    """Field by field in its settings, pins by the banks' names, counts under text keys."""
    statistics = synthetic_statistics(2, 8, seed=4)
    costs = cost_table(statistics, "mode_output", key_ratio=0.3, bits=(2, 3, 4), vision_weight=0.5)
    pinned = {list(statistics.banks)[1]: {5: 4}}
    allocate(costs, average_bits=2.5, scope="model", pinned=pinned, at_most={4: 9}).save(tmp_path / "old.json")
    record = json.loads((tmp_path / "old.json").read_text())
    record["settings"].pop("shrinkage")  # older still
    (tmp_path / "old.json").write_text(json.dumps(record))
    request = AllocationRequest.of(Allocation.load(tmp_path / "old.json"), statistics)
    assert request == AllocationRequest(
        "mode_output", key_ratio=0.3, vision_weight=0.5, scope="model", budget=2.5, pins=((1, 5, 4),), at_most=((4, 9),)
    )
    again = request.solve(statistics)
    assert all(np.array_equal(again.bits[bank], record["bits"][bank]) for bank in record["bits"])
    with pytest.raises(ValueError, match="has no request behind it"):
        AllocationRequest.of(uniform_allocation(costs, None, 3), statistics)


def test_a_request_fits_itself_to_what_was_measured():
    statistics = synthetic_statistics(2, 8, bits=(2, 3))
    asked = AllocationRequest(widths=(1, 2, 3), pins=((0, 1, 2), (0, 99, 2), (7, 0, 2), (1, 1, 4)))
    assert asked.fitted(statistics) == replace(asked, widths=(2, 3), pins=((0, 1, 2),))
    assert AllocationRequest(widths=(6, 8)).fitted(statistics).widths == (2, 3)
    with pytest.raises(ValueError, match="pins name bank 7; the model has the banks 0 to 1"):
        replace(asked, widths=(2, 3)).solve(statistics)


def test_costs_follow_what_a_method_says_it_follows_and_nothing_else():
    """Of every method: its costs move with the settings in `follows`, and not with the others."""
    signals = ("text_attention", "diversity")
    statistics = with_audio(synthetic_statistics(1, 12, signals=signals, extras=EXTRAS, tokens=4000))
    for arrays in (bank.arrays for bank in statistics):  # less important tokens hurt more; then all the other way round
        arrays["vision_error/text_attention"] *= np.linspace(0.5, 1.5, 100)
        for name in [name for name in arrays if name.endswith("/diversity")]:
            arrays[name] = arrays[name.replace("diversity", "text_attention")][..., ::-1]
    moved = {"key_ratio": 0.6, "signal": "diversity", "vision_weight": 3.0, "audio_weight": 3.0}
    for name, method in METHODS.items():
        if method.needs == "logit_kl":
            continue  # measured at one ratio and signal
        plain = AllocationRequest(name, widths=(2, 3))
        for field in FOLLOWED:
            other = replace(plain, **{field: moved[field]})
            one, two = (each.costs(statistics).values() for each in (plain, other))
            same = all(np.allclose(a, b, rtol=1e-6, atol=0) for a, b in zip(one, two, strict=True))
            assert same == (field not in method.follows), (name, field)
            assert (other.costs_alone == plain.costs_alone) == same


def test_shrinkage_draws_costs_to_the_mean_of_their_bank():
    """Two banks, two experts, two widths, by hand: c_λ = (1 − λ)·c + λ·mean over the bank; for every method alike."""
    statistics = synthetic_statistics(2, 2, bits=(2, 4), extras=EXTRAS)
    for method in METHODS:
        plain = cost_table(statistics, method, bits=(4, 2))
        half, whole = (cost_table(statistics, method, bits=(4, 2), shrinkage=share) for share in (0.25, 1.0))
        for bank, costs in plain.items():
            mean = [(costs[0, column] + costs[1, column]) / 2 for column in (0, 1)]
            by_hand = [[0.75 * costs[e, column] + 0.25 * mean[column] for column in (0, 1)] for e in (0, 1)]
            np.testing.assert_allclose(half[bank], by_hand)
            np.testing.assert_allclose(whole[bank], [mean, mean])
    assert half.settings["shrinkage"] == 0.25


def test_the_command_of_a_verb_says_everything_that_was_said():
    """The reproduction command of evidence, parsed again, gives the same options; `--json` only shapes the output."""
    words = shlex.split(
        "compare --runs a 'b c' --draws 3 --limit 9 --methods mode mc --average-bits 2.5 3 --truth-bits --batch-size 8 "
        "--resamples 300 --calibration other --key-ratio 0.3 --shrinkage 0.5 --quantizer gptq --no-asymmetric "
        "--gptq damping=0.02 --trust-remote-code --dtype float32 --json"
    )
    options = build_parser().parse_args(words)
    said = shlex.split(command_of(options.parser, options))
    assert said[:4] == ["python", "-m", "mode_core", "compare"] and "--json" not in said
    again = build_parser().parse_args([*said[3:], "--json"])
    assert {**vars(again), "parser": None} == {**vars(options), "parser": None}


def test_truth_values_of_gptq_are_read_and_never_guessed():
    said = ["--run", "r", "--allocation", "a", "--target", "t", "--out", "o", "--gptq"]
    parser = build_parser()
    assert read_quantizer(parser.parse_args(["export", *said, "answers=false"])).gptq.answers is False
    assert read_quantizer(parser.parse_args(["export", *said, "answers=True"])).gptq.answers is True
    with pytest.raises(ValueError, match=r"--gptq takes NAME=VALUE .*; got answers=yes"):
        read_quantizer(parser.parse_args(["export", *said, "answers=yes"]))
