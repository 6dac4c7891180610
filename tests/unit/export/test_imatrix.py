"""The importance matrix: its sums against the model's own pass, llama.cpp's form, and what it is worth to ggml."""

import json

import numpy as np
import pytest
import torch

from mode_core.allocation.records import Allocation
from mode_core.calibration import CalibrationSettings, calibrate
from mode_core.cli import main
from mode_core.export import ExportError, export
from mode_core.export.ggml_library import ggml_quantize
from mode_core.export.ggml_types import TYPES
from mode_core.export.gguf_names import expert_tensor
from mode_core.export.imatrix import LEAST_TOKENS, as_llama_cpp_names, importance_rows, read_imatrix
from mode_core.models import PADDING, TEXT
from mode_core.run import Run
from mode_core.runs.merging import merge_runs
from mode_core.statistics.imatrix import InputEnergies

gguf = pytest.importorskip("gguf")
SETTINGS = CalibrationSettings(bits=(2,), imatrix=True, exemplars=0, token_scores_for=0)


@pytest.fixture(scope="module")
def measured(tiny_model, tiny_samples, tmp_path_factory):
    """A run over all samples, its statistics, and its input energies."""
    run = Run.create(tmp_path_factory.mktemp("imatrix") / "run")
    statistics = calibrate(tiny_model, tiny_samples, SETTINGS, run=run)
    return run, statistics, InputEnergies.load(run.path, statistics.samples)


def seen_by_hooks(loaded, samples, module, what):
    """(inputs of a module, modality) in a plain pass over each sample by itself, as (float64 [n, in], int [n])."""
    found = []
    for sample in samples:
        encoded, kept = loaded.encode([sample]), []
        hook = module.register_forward_pre_hook(lambda _, arguments, kept=kept: kept.append(arguments))
        with torch.inference_mode():
            loaded.model(**encoded.inputs)
        hook.remove()
        modality = encoded.modality.flatten()
        assert (modality != PADDING).all()
        found.append((what(kept[0]), modality))
    return found


def test_sums_equal_those_of_the_models_own_pass(measured, tiny_model, tiny_samples):
    _, statistics, energies = measured
    bank = next(iter(tiny_model.banks.values()))
    sums, counts = (np.zeros((2, bank.experts, bank.hidden)), np.zeros((2, bank.experts)))
    inner = np.zeros((2, bank.experts, bank.intermediate))
    gate_up = dict(bank.module.named_parameters())["gate_up_proj"].detach().float()
    for (states, experts), modality in seen_by_hooks(
        tiny_model, tiny_samples, bank.module, lambda a: (a[0].reshape(-1, a[0].shape[-1]).float(), a[1])
    ):
        for token, chosen in enumerate(experts.tolist()):
            for expert in chosen:
                x, which = states[token], int(modality[token] != TEXT)
                both = gate_up[expert] @ x
                between = torch.nn.functional.silu(both[: bank.intermediate]) * both[bank.intermediate :]
                sums[which, expert] += x.double().numpy() ** 2
                inner[which, expert] += between.double().numpy() ** 2
                counts[which, expert] += 1
    for key, expected in ((f"{bank.name}/up", sums), (f"{bank.name}/down", inner)):
        held = energies.sums[key]
        np.testing.assert_allclose(held[0], expected[0], rtol=1e-4)
        np.testing.assert_allclose(held[1] + held[2], expected[1], rtol=1e-4)
        np.testing.assert_array_equal(energies.counts[key][0], counts[0])
    key_tokens = statistics.banks[bank.name].vision("selections", "text_attention")[:, :20].sum(axis=1)
    np.testing.assert_array_equal(energies.counts[f"{bank.name}/up"][1], key_tokens)


def test_other_layers_see_all_tokens(measured, tiny_model, tiny_samples):
    _, statistics, energies = measured
    name, layer = next((n, m) for n, m in tiny_model.model.named_modules() if n.endswith("layers.2.self_attn.o_proj"))
    total = np.zeros(layer.in_features)
    for states, _ in seen_by_hooks(tiny_model, tiny_samples, layer, lambda a: a[0].reshape(-1, a[0].shape[-1])):
        total += states.double().square().sum(dim=0).numpy()
    np.testing.assert_allclose(energies.sums[name][:, 0].sum(axis=0), total, rtol=1e-4)
    bank = list(statistics)[-1]
    tokens = bank.vision("tokens", "text_attention")
    expected = [bank.text("tokens"), tokens[:20].sum(), tokens[20:].sum()]
    np.testing.assert_array_equal(energies.counts[name][:, 0], expected)
    assert not any("visual" in key for key in energies.sums)


def test_an_interrupted_run_continues_and_runs_merge(measured, tiny_model, tiny_samples, tmp_path):
    _, _, whole = measured
    from mode_core.jobs import Cancelled

    def stop_late(now) -> None:
        if now.done >= 6:
            raise Cancelled("enough")

    run = Run.create(tmp_path / "stopped")
    with pytest.raises(Cancelled):
        calibrate(tiny_model, tiny_samples, SETTINGS, run=run, progress=stop_late)
    held = Run.open(run.path).statistics
    assert 0 < len(held.samples) < len(tiny_samples)
    calibrate(tiny_model, tiny_samples, SETTINGS, run=Run.open(run.path))
    assert len(list(run.path.glob("imatrix-*"))) == 1
    halves = [Run.create(tmp_path / name) for name in ("a", "b")]
    for half, part in zip(halves, (tiny_samples[:4], tiny_samples[4:]), strict=True):
        calibrate(tiny_model, part, SETTINGS, run=half)
    merged = merge_runs([Run.open(half.path) for half in halves], tmp_path / "merged")
    for again in (run, merged):
        found = InputEnergies.load(again.path, [sample.id for sample in tiny_samples])
        for key, sums in whole.sums.items():
            np.testing.assert_allclose(found.sums[key], sums, rtol=1e-5)


def test_a_run_without_one_is_not_continued_with_one(tiny_model, tiny_samples, tmp_path):
    run = Run.create(tmp_path / "run")
    calibrate(tiny_model, tiny_samples[:4], CalibrationSettings(bits=(2,), exemplars=0), run=run)
    with pytest.raises(ValueError, match="was begun without an importance matrix"):
        calibrate(tiny_model, tiny_samples, CalibrationSettings(bits=(2,), exemplars=0, imatrix=True), run=run)
    bits = {bank: np.full(8, 2) for bank in tiny_model.banks}
    with pytest.raises(ExportError, match="calibrate with --imatrix"):
        export("imatrix", Allocation(bits, (2,), 0.0, 0.0, False, 0.0, 2.0), tmp_path / "out", run=Run.open(run.path))


def test_llama_cpps_form(measured, tiny_model, tmp_path, capsys):
    run, _, energies = measured
    allocation = Allocation({bank: np.full(8, 2) for bank in tiny_model.banks}, (2,), 0.0, 0.0, False, 0.0, 2.0)
    allocation.save(tmp_path / "two.json")
    common = ["export", "--run", str(run.path), "--allocation", str(tmp_path / "two.json"), "--target", "imatrix"]
    assert main([*common, "--out", str(tmp_path / "out"), "--json", "--quiet"]) == 0
    reader = gguf.GGUFReader(tmp_path / "out" / "imatrix.gguf")
    assert reader.fields["general.type"].contents() == "imatrix"
    assert reader.fields["imatrix.chunk_count"].contents() == 8
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    bank = next(iter(tiny_model.banks.values()))
    name = expert_tensor(bank.layer, "down")
    sums, counts = tensors[f"{name}.in_sum2"], tensors[f"{name}.counts"]
    assert sums.shape.tolist() == [bank.intermediate, 8] and counts.shape.tolist() == [1, 8]
    kept = energies.counts[f"{bank.name}/down"][:2].sum(axis=0)
    rich = kept >= LEAST_TOKENS
    assert 0 < rich.sum() < 8
    expected = energies.sums[f"{bank.name}/down"][:2].sum(axis=0)
    np.testing.assert_allclose(sums.data[rich], expected[rich], rtol=1e-6)
    np.testing.assert_array_equal(counts.data[rich, 0], kept[rich])
    mean = expected.sum(axis=0) / kept.sum()
    for expert in np.flatnonzero(~rich):
        np.testing.assert_allclose(sums.data[expert] / counts.data[expert], mean, rtol=1e-5)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    poor = f"layer {bank.layer}: expert {np.flatnonzero(~rich)[0]}"
    assert any("got their bank's mean" in note and poor in note for note in manifest["notes"])
    assert {f"blk.{n}.attn_{part}.weight.in_sum2" for n in range(3) for part in ("q", "k", "v", "output")} <= {*tensors}
    assert "blk.1.ffn_down.weight.in_sum2" not in tensors  # llama.cpp's qwen3vlmoe has no dense layer
    rows = importance_rows(read_imatrix(tmp_path / "out" / "imatrix.gguf"))
    np.testing.assert_allclose(rows[name][rich], expected[rich] / kept[rich, None], rtol=1e-5)


def test_plain_counts_redundant_tokens_too(measured, tiny_model):
    _, _, energies = measured
    layers = {bank.name: bank.layer for bank in tiny_model.banks.values()}
    name = "blk.0.attn_q.weight"
    parted, whole = (as_llama_cpp_names(energies, layers, w)[0][name] for w in ((1, 1, 0), (1, 1, 1)))
    redundant = energies.counts["model.language_model.layers.0.self_attn.q_proj"][2, 0]
    assert redundant > 0 and whole[1][0] - parted[1][0] == redundant


@pytest.mark.parametrize("name", ["IQ2_XXS", "Q2_K", "IQ3_XXS", "Q3_K", "IQ4_XS", "Q4_K"])
def test_ggml_takes_a_row_and_the_weighted_error_falls(name):
    pytest.importorskip("xllamacpp", reason="xllamacpp is not installed")
    draw = np.random.default_rng(3)
    weights = draw.standard_normal((32, 512)).astype(np.float32)
    row, kind = np.exp(draw.standard_normal(512)).astype(np.float32), TYPES[name]
    kept = gguf.GGMLQuantizationType(kind.id)

    def error(importance) -> float:
        made = gguf.quants.dequantize(ggml_quantize(weights, kind, importance), kept)
        return float((row * (made - weights) ** 2).sum())

    if kind.needs_imatrix:
        with pytest.raises(ExportError, match="rounded with an importance matrix alone"):
            ggml_quantize(weights, kind)
    assert error(row) < error(np.ones(512)) * 0.99


def test_what_is_no_importance_matrix_is_refused(tmp_path):
    path = tmp_path / "other.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("a", np.zeros(3, np.float32))
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    with pytest.raises(ExportError, match=r"no importance matrix .general.type is not 'imatrix'"):
        read_imatrix(path)
