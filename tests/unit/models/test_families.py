"""Every family on its tiny model: banks, views, probe, counts, importance, calibration, against the model itself.

All models are random with fixed seeds, float32 on the CPU. Probed logits are the same to the last bit (difference 0).
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from mode_core.allocation import Allocation, allocate
from mode_core.calibration.routing import routes_of
from mode_core.cli import main
from mode_core.errors import QuantizationError
from mode_core.evaluation import evaluate, record_reference
from mode_core.export import export
from mode_core.export.rotated import write_rotated
from mode_core.importance import cost_table, frequencies
from mode_core.models import AUDIO, PADDING, TEXT, VISION, ExpertBank, LoadedModel, load_model
from mode_core.probing.probe import Probe
from mode_core.probing.redundancy import query_positions
from mode_core.probing.signals import SIGNALS
from mode_core.quantization import quantize_experts
from mode_core.run import Run
from mode_core.samples import read_samples
from tests.families import table
from tests.families.making import class_name, save_family
from tests.families.registry import FAMILIES, Family
from tests.sounds import sound

BITS, GROUP, SECONDS = (2, 4), 16, 0.5


@dataclass
class Case:
    """A family's model, saved and loaded, with two samples without, (where it reads them) two with a picture and
    (where it hears) one with a sound of `SECONDS`."""

    family: Family
    folder: Path
    samples: Path
    loaded: LoadedModel
    run: Run | None = None

    def encode(self):
        return self.loaded.encode(read_samples(self.samples))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    from tests.conftest import drawn_picture

    folder, draw = tmp_path_factory.mktemp("pictures"), np.random.default_rng(1)
    for number, size in enumerate(((32, 32), (40, 32))):
        drawn_picture(*size, draw).save(folder / f"{number}.png")
    lines = [
        {"id": "a", "text": "is the circle red ?", "images": []},
        {"id": "b", "text": "how many are there , 1 2 3 ?", "images": []},
        {"id": "c", "text": "what colour is it ?", "image": "0.png"},
        {"id": "d", "text": "is the square a triangle ?", "image": "1.png"},
    ]
    (folder / "e.wav").write_bytes(sound(SECONDS, 440))
    lines.append({"id": "e", "text": "what colour is it ?", "audio": "e.wav"})
    for name, count in (("text", 2), ("pictures", 4), ("sounds", 5)):
        (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(line) for line in lines[:count]))
    return folder


@pytest.fixture(scope="module", params=FAMILIES, ids=[family.name for family in FAMILIES])
def case(request, tmp_path_factory, pictures) -> Case:
    family = request.param
    folder = save_family(family.name, tmp_path_factory.mktemp("family") / family.name)
    kind = "sounds" if family.hears else "pictures" if family.pictures else "text"
    loaded = load_model(folder, device="cpu", trust_remote_code=family.remote)
    return Case(family, folder, pictures / f"{kind}.jsonl", loaded)


@pytest.fixture(scope="module")
def run(case, tmp_path_factory) -> Run:
    """What the command line measures."""
    if case.run is None:
        out = tmp_path_factory.mktemp("run") / case.family.name
        command = ["calibrate", "--model", case.folder, "--samples", case.samples, "--out", out, "--device", "cpu"]
        options = [
            "--batch-size",
            5,
            "--group-size",
            GROUP,
            "--measure-bits",
            *BITS,
            "--signals",
            "all",
            "--no-gradients",
        ]
        trust = ["--trust-remote-code"] if case.family.remote else []
        trust += [] if case.family.pictures else ["--no-anchor"]
        assert main([*map(str, [*command, *options, *trust]), "--quiet", "--json"]) == 0
        case.run = Run.open(out)
    return case.run


def test_the_table_of_families_is_current():
    assert table.PLACE.read_text(encoding="utf-8") == table.document(), "run: python -m tests.families.table"


def module_output(bank: ExpertBank, states: Tensor, expert: int) -> Tensor:
    """The model's own module computes all states with one expert, unweighted."""
    with torch.no_grad():
        if bank.reached == "list":
            return bank.module[expert](states)
        if bank.reached == "scaled_input":
            return bank.module(states.repeat(bank.experts, 1)).view(bank.experts, *states.shape)[expert]
        chosen = torch.full((len(states), 1), expert)
        return bank.module(states, chosen, torch.ones(len(states), 1))


def test_banks_are_found(case):
    family, banks = case.family, list(case.loaded.banks.values())
    assert [bank.layer for bank in banks] == sorted(family.layers * family.banks)
    assert {(bank.experts, bank.hidden, bank.top_k, bank.has_gate) for bank in banks} == {
        (8, family.hidden, 2, family.gate)
    }
    assert {bank.intermediate for bank in banks} == set(family.intermediate)
    assert {bank.reached for bank in banks} == {family.reached}
    assert type(case.loaded.model).__name__ == class_name(family.name)
    assert case.loaded.reads_pictures == family.pictures


def test_views_are_what_the_model_computes_with(case):
    torch.manual_seed(1)
    states = torch.randn(5, case.family.hidden)
    for bank in case.loaded.banks.values():
        for expert in range(bank.experts):
            own = module_output(bank, states, expert)
            assert torch.allclose(bank.own_forward(states, expert), own, atol=1e-5)
            fused = bank.expert_forward(states, bank.fused("up")[expert], bank.fused("down")[expert], expert)
            assert torch.allclose(fused, own, atol=1e-5)


def test_quantized_weights_reach_the_model_and_leave_it(case):
    loaded = case.loaded
    before = {name: value.clone() for name, value in loaded.model.state_dict().items()}
    wide = {name: np.full(bank.experts, 2) for name, bank in loaded.banks.items()}
    states = torch.randn(3, case.family.hidden, generator=torch.Generator().manual_seed(2))
    bank = list(loaded.banks.values())[-1]
    plain = module_output(bank, states, 5)
    with quantize_experts(loaded, given(wide), "rtn", GROUP) as quantized:
        moved = module_output(bank, states, 5)
        assert not torch.allclose(moved, plain)
        parts = ("gate", "up") if bank.has_gate else ("up",)
        up = torch.cat([quantized.matrix(bank.name, name, 5) for name in parts])[order(bank)]
        assert torch.allclose(
            bank.expert_forward(states, up, quantized.matrix(bank.name, "down", 5), 5), moved, atol=1e-5
        )
    assert all(torch.equal(value, before[name]) for name, value in loaded.model.state_dict().items())


def given(bits: dict[str, np.ndarray]) -> Allocation:
    return SimpleNamespace(bits=bits)


def order(bank: ExpertBank) -> Tensor:
    """Where the rows of gate, then up, stand in the bank's own order."""
    rows = torch.arange((1 + bank.has_gate) * bank.intermediate)
    return torch.cat([rows[bank.rows("gate")] if bank.has_gate else rows[:0], rows[bank.rows("up")]]).argsort()


def test_the_probe_changes_nothing_and_sees_every_bank_once(case):
    loaded, encoded, seen = case.loaded, case.encode(), []
    with torch.no_grad():
        plain = loaded.model(**encoded.inputs, use_cache=False).logits
    with Probe(loaded, tuple(SIGNALS), seen.append) as probe:
        probed = probe.run(encoded).logits
    assert torch.equal(plain, probed)
    assert sorted(one.bank.name for one in seen) == sorted(loaded.banks)
    attended = encoded.modality != PADDING
    for layer in case.family.layers:
        parts = [one.encoded.modality != PADDING for one in seen if one.bank.layer == layer]
        assert torch.equal(torch.stack(parts).sum(dim=0), attended.long()), "every position is in one bank of a layer"
    for one in seen:
        used = (one.encoded.modality != PADDING).ravel()
        expected = weighted_sum(one.bank, one.states[used], one.experts[used], one.weights[used])
        assert torch.allclose(expected, one.output[used], atol=1e-4)


def weighted_sum(bank: ExpertBank, states: Tensor, experts: Tensor, weights: Tensor) -> Tensor:
    """What the bank must give, by the model's own module, one expert after the other."""
    total = torch.zeros_like(states)
    for expert in range(bank.experts):
        for column in range(experts.shape[1]):
            rows = torch.nonzero(experts[:, column] == expert).ravel()
            if len(rows):
                gate = weights[rows, column].to(states.dtype)
                made = module_output(bank, bank.entering(states[rows], gate), expert)
                total[rows] += made * bank.leaving(gate)[:, None]
    return total


def choices(loaded: LoadedModel, encoded) -> dict[str, Tensor]:
    """The experts of every row that each bank's router chose, in a plain pass: from the router's own output."""
    found, hooks = {}, []
    for name, bank in loaded.banks.items():
        block = loaded.model.get_submodule(name.rpartition(".")[0])
        router = block.gate if hasattr(block, "gate") else block.router

        def note(_module, _args, output, name=name, bank=bank):
            parts = output if isinstance(output, tuple) else (output,)
            whole = [part for part in parts if part is not None and not part.is_floating_point()]
            found[name] = whole[0] if whole else parts[-1].topk(bank.top_k).indices

        hooks.append(router.register_forward_hook(note))
    with torch.no_grad():
        loaded.model(**encoded.inputs, use_cache=False)
    for hook in hooks:
        hook.remove()
    return {name: chosen.reshape(-1, chosen.shape[-1]) for name, chosen in found.items()}


def test_routes_are_the_routers_own(case):
    """Of the first sample: its experts in every bank that sees a token; entropy within its bounds, or not known."""
    sample = read_samples(case.samples)[0]
    found, encoded = routes_of(case.loaded, sample), case.loaded.encode([sample])
    known, chosen = found.weights[..., 0] > 0, choices(case.loaded, encoded)
    for row, bank in enumerate(found.banks):
        assert (bank in chosen) == known[row].any()
        if bank in chosen:
            mine = np.sort(found.experts[row][known[row]], axis=1)
            np.testing.assert_array_equal(mine, np.sort(chosen[bank].numpy(), axis=1))
    told, silent = found.entropy[known], ("kimi_vl", "deepseek_vl2", "deepseek_v4")  # their gates tell no scores, or
    assert case.family.name in silent or np.isfinite(told).all()  # scores of another kind
    assert np.isnan(told).all() or 0 <= np.nanmin(told) <= np.nanmax(told) <= np.log2(8) + 0.01


def test_counts_are_the_routers_own(case, run):
    encoded, statistics = case.encode(), run.statistics
    modality = encoded.modality.ravel()
    part = {"text_moe": 0, "vision_moe": 1}
    for name, chosen in choices(case.loaded, encoded).items():
        here = torch.ones_like(modality, dtype=torch.bool)
        if case.family.banks > 1:
            here = encoded.inputs["moe_mm_token_type_ids"].ravel().bool() == part[name.split(".")[-2]]
        kinds, arrays = modality[here], statistics.banks[name].arrays
        counted_apart = [(TEXT, "text_selections"), (VISION, "vision_selections/text_attention")]
        for kind, mine in [*counted_apart, (AUDIO, "audio_selections/text_attention")][: 2 + bool(case.family.hears)]:
            counted = torch.bincount(chosen[kinds == kind].ravel(), minlength=8).double().numpy()
            assert np.array_equal(arrays[mine].reshape(arrays[mine].shape[0], 8, -1).sum(axis=(0, 2)), counted)
        assert arrays["text_tokens"].sum() == int((kinds == TEXT).sum())


def test_importance_is_the_models_attention(case, monkeypatch):
    """`text_attention` against the whole attention matrices, by the eager kernel (differences of rounding: 1e-4)."""
    if not case.family.pictures:
        pytest.skip("reads no pictures")
    loaded, encoded, seen = case.loaded, case.encode(), {}
    with Probe(loaded, ("text_attention",), lambda one: seen.update({one.bank.layer: one.importance})) as probe:
        probe.run(encoded)
    matrices = whole_attention(case, encoded, monkeypatch)
    query, served = query_positions(encoded), dict(case.family.borrowed)
    for layer, importance in seen.items():
        whole = matrices[served.get(layer, layer)].mean(dim=1)
        for row in range(2, len(encoded.ids)):
            seen_here = encoded.modality[row] == (AUDIO if row == 4 else VISION)
            expected = whole[row, query[row]].mean(dim=0)[seen_here]
            assert torch.allclose(importance["text_attention"][row, seen_here], expected, atol=1e-4)
            assert expected.std() > 0


def whole_attention(case: Case, encoded, monkeypatch) -> dict[int, Tensor]:
    """Layer -> `[batch, heads, L, L]`."""
    model, layers = case.loaded.model, sorted(Probe(case.loaded, (), print).attending)
    if case.family.attention == "wrapped":
        return wrapped_attention(case, encoded, monkeypatch)
    configs = {id(part.config): part.config for part in model.modules() if hasattr(part, "config")}.values()
    kernels = [config._attn_implementation for config in configs]
    if not case.family.remote:
        model.set_attn_implementation("eager")
    with torch.no_grad():
        found = model(**encoded.inputs, output_attentions=True, use_cache=False).attentions
    for config, kernel in zip(configs, kernels, strict=True):  # of the whole model first, then of its parts
        config._attn_implementation = kernel
    found = [one for one in found if one is not None]
    return dict(zip(layers, found, strict=True))


def wrapped_attention(case: Case, encoded, monkeypatch) -> dict[int, Tensor]:
    """Attention of a family that returns none: computed in the place of the method that computes it."""
    found, kind = [], type(case.loaded.model.model.transformer.blocks[0].attn)

    def told(self, q, k, v, attn_mask=None, **_):
        found.append((q @ k.mT * q.shape[-1] ** -0.5 + attn_mask).softmax(dim=-1))
        return found[-1] @ v

    monkeypatch.setattr(kind, "_scaled_dot_product_attention", told)
    with torch.no_grad():
        case.loaded.model(**encoded.inputs, use_cache=False)
    return dict(enumerate(found))


def test_sensitivity_is_that_of_the_models_own_experts(case, run):
    """Errors of one expert: the model's own module with quantized weights in it, token by token."""
    loaded, encoded, seen = case.loaded, case.encode(), {}
    with Probe(loaded, ("duplication",), lambda one: seen.update({one.bank.name: one})) as probe:
        probe.run(encoded)
    one = seen[list(loaded.banks)[-1]]
    used = (one.encoded.modality != PADDING).ravel()
    expert = int(torch.bincount(one.experts[used].ravel(), minlength=8).argmax())
    rows, columns = torch.nonzero((one.experts == expert) & used[:, None], as_tuple=True)
    states = one.bank.entering(one.states[rows], one.weights[rows, columns].float())
    plain = module_output(one.bank, states, expert)
    wide = {name: np.full(bank.experts, 2) for name, bank in loaded.banks.items()}
    with quantize_experts(loaded, given(wide), "rtn", GROUP):
        moved = module_output(one.bank, states, expert)
    arrays = run.statistics.banks[one.bank.name].arrays
    measured = arrays["text_error"].sum(axis=0)[expert, 0]
    for name in ("vision", *(["audio"] if case.family.hears else [])):
        measured += arrays[f"{name}_error/text_attention"].sum(axis=(0, 3))[expert, 0]
    assert measured == pytest.approx(float((moved - plain).double().square().sum()), rel=1e-3)


def test_the_command_line_measures_it_and_bits_follow(case, run):
    statistics, family = run.statistics, case.family
    assert run.info["attention_from"] == {
        bank.name: dict(family.borrowed)[bank.layer]
        for bank in case.loaded.banks.values()
        if bank.layer in dict(family.borrowed)
    }
    encoded = case.encode()
    kinds = {"text": int((encoded.modality == TEXT).sum()), "vision": int((encoded.modality == VISION).sum())}
    if family.hears:
        kinds["audio"] = math.ceil(1000 * SECONDS / family.hears)
        assert encoded.sounds[4] == ((kinds["audio"], SECONDS),)
    assert run.info["tokens"] == kinds and (kinds["vision"] > 0) == family.pictures
    shares = frequencies(statistics, key_ratio=0.2)
    assert all(np.isclose(one.text.sum(), 1) and np.isclose(one.key.sum(), 1) for one in shares.values())
    for method in ("mode", "frequency"):
        costs = cost_table(statistics, method=method, bits=BITS)
        made = allocate(costs, BITS, average_bits=3.0)
        assert set(made.bits) == set(case.loaded.banks) and all(bits.mean() <= 3 for bits in made.bits.values())


def test_an_export_opens_as_what_was_evaluated(case, run, tmp_path):
    """The plain checkpoint holds every tensor as quantized in the model, in the names and types of the source."""
    loaded, samples = case.loaded, read_samples(case.samples, limit=1)
    allocation = allocate(cost_table(run.statistics, method="mode", bits=BITS), BITS, average_bits=3.0)
    reference = record_reference(loaded, samples, max_new_tokens=1)
    made = tmp_path / f"{case.family.name}_out"  # code that comes with a model is known by its folder's name
    export("dequantized", allocation, made, loaded=loaded, group_size=GROUP)
    opened = load_model(made, device="cpu", trust_remote_code=case.family.remote).model.state_dict()
    with quantize_experts(loaded, allocation, "rtn", GROUP):
        assert evaluate(loaded, samples, reference, max_new_tokens=1).kl > 0
        for name, tensor in loaded.model.state_dict().items():
            assert torch.equal(tensor, opened[name]), name


def test_it_rotates_and_answers_as_before_or_is_refused_with_the_reason(case, tmp_path):
    """Norms' gains are drawn first, since all of a new model's are alike and folding them would change nothing."""
    family, trust = case.family, {"trust_remote_code": case.family.remote}
    loaded = load_model(case.folder, device="cpu", **trust)
    draw = torch.Generator().manual_seed(4)
    for name, parameter in loaded.model.named_parameters():
        if parameter.dim() == 1 and "norm" in name and name.endswith("weight"):
            parameter.data += torch.rand(parameter.shape, generator=draw) / 2
    samples, made = read_samples(case.samples), tmp_path / f"{family.name}_out"
    before = logits(loaded, samples)
    if family.unrotated:
        with pytest.raises(QuantizationError, match=re.escape(family.unrotated)):
            write_rotated(loaded, made, samples, **trust)
        assert not made.exists()
        return
    write_rotated(loaded, made, samples, seed=1, **trust)
    opened = load_model(made, device="cpu", **trust)
    assert (logits(opened, samples) - before).abs().max() < 1e-4 * max(1.0, float(before.abs().max()))
    moved = list(loaded.banks.values())[-1].name
    assert not torch.allclose(
        opened.banks[moved].matrix("down", 0), case.loaded.banks[moved].matrix("down", 0), atol=1e-3
    )


def logits(loaded: LoadedModel, samples) -> Tensor:
    """Of all positions but padding."""
    inputs = loaded.encode(samples).inputs
    with torch.no_grad():
        return loaded.model(**inputs, use_cache=False).logits[inputs["attention_mask"].bool()]
