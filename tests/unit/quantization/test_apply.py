"""Quantized experts in a real (tiny) model: what it computes with, what comes back, and who may touch it."""

import json
import threading

import numpy as np
import pytest
import torch

from mode_core.allocation.records import Allocation
from mode_core.errors import SettingsError
from mode_core.files import read_tensors, tensor_bytes
from mode_core.jobs import Cancelled
from mode_core.quantization import (
    QuantizationError,
    Quantizer,
    exclusive,
    expert_bytes,
    fake_quantize,
    load_packed,
    original_expert_bytes,
    quantize_experts,
)
from mode_core.quantization.packed_file import PackedFileError, read_packed, write_packed
from mode_core.statistics import BankShape


def banks_of(loaded) -> list:
    return list(loaded.banks.values())


def allocation_for(loaded, widths=(2, 3, 4), by_projection: bool = False) -> Allocation:
    draw = np.random.default_rng(0)
    size = {bank.name: (bank.experts, 2) if by_projection else bank.experts for bank in banks_of(loaded)}
    bits = {name: draw.choice(widths, shape) for name, shape in size.items()}
    return Allocation(bits, tuple(widths), 0.0, 0.0, False, 0.0, float(np.mean([b.mean() for b in bits.values()])))


def state(loaded) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in loaded.model.named_parameters()}


def same(a: dict, b: dict) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("by_projection", [True, False])
def test_the_model_gets_the_dequantized_values_and_its_original_back(tiny_model, symmetric, by_projection) -> None:
    before = state(tiny_model)
    originals = {
        (bank.name, projection): bank.stacked(projection).clone()
        for bank in banks_of(tiny_model)
        for projection in bank.projections
    }
    allocation = allocation_for(tiny_model, (0, 1, 3, 8, 16), by_projection)
    with quantize_experts(tiny_model, allocation, group_size=32, symmetric=symmetric) as quantized:
        for bank in banks_of(tiny_model):
            widths = allocation.bits[bank.name]
            for projection in bank.projections:
                for expert in range(bank.experts):
                    width = int(widths[expert, int(projection == "down")] if by_projection else widths[expert])
                    original = originals[bank.name, projection][expert]
                    expected = original if width == 16 else fake_quantize(original, width, 32, symmetric)
                    assert torch.equal(bank.matrix(projection, expert), expected)
                    assert torch.equal(quantized.matrix(bank.name, projection, expert), expected)
        during = state(tiny_model)
        outside = {id(p) for bank in banks_of(tiny_model) for p in bank.module.parameters()}
        for name, parameter in tiny_model.model.named_parameters():
            assert torch.equal(before[name], during[name]) == (id(parameter) not in outside)
    assert same(before, state(tiny_model))
    with quantized:  # again, from the packed codes
        assert same(during, state(tiny_model))
    assert same(before, state(tiny_model))


def test_bytes_are_those_of_the_size_table(tiny_model) -> None:
    allocation = allocation_for(tiny_model)
    with quantize_experts(tiny_model, allocation, group_size=32, symmetric=False) as quantized:
        assert quantized.applied
    expected = original = 0
    for bank in banks_of(tiny_model):
        shape = BankShape(bank.layer, bank.experts, bank.hidden, bank.intermediate, bank.top_k, bank.has_gate)
        table = dict(zip((2, 3, 4), expert_bytes(shape, (2, 3, 4), 32, symmetric=False).tolist(), strict=True))
        expected += sum(table[int(width)] for width in allocation.bits[bank.name])
        original += bank.experts * original_expert_bytes(shape, bank.stacked("down").element_size())
    assert quantized.packed_bytes == expected
    assert quantized.original_bytes == original


def test_packed_file_reads_back(tiny_model, tmp_path) -> None:
    with quantize_experts(tiny_model, allocation_for(tiny_model), group_size=32, symmetric=False) as quantized:
        quantized.save_packed(tmp_path / "packed.safetensors")
    packed, _, quantizer = read_packed(tmp_path / "packed.safetensors")
    assert quantizer == quantized.quantizer == Quantizer("rtn", 32, False)
    assert packed.keys() == quantized.packed.keys()
    for key, matrix in packed.items():
        assert torch.equal(matrix.dequantize(), quantized.packed[key].dequantize())
    tensors, metadata = read_tensors(tmp_path / "packed.safetensors", PackedFileError)
    header = json.loads(metadata["packed"])
    for settings, told in (({"method": "rtn", "group_size": 32, "symmetric": False}, None), ({"method": "x"}, "'x'")):
        content = tensor_bytes(tensors, {"packed": json.dumps(header | {"settings": settings})})
        (tmp_path / "earlier").write_bytes(content)  # an earlier version wrote no more than these three
        if told is None:
            assert read_packed(tmp_path / "earlier").quantizer == quantizer
        else:
            with pytest.raises(PackedFileError, match=f"earlier is damaged: settings of its quantizer: .*{told}"):
                read_packed(tmp_path / "earlier")
    (tmp_path / "cut").write_bytes((tmp_path / "packed.safetensors").read_bytes()[:-50])
    with pytest.raises(PackedFileError, match="cut"):
        read_packed(tmp_path / "cut")


@pytest.mark.parametrize("storage", ["values", "packed"])
def test_a_packed_file_goes_into_the_model_again(tiny_model, tmp_path, storage: str) -> None:
    path, before = tmp_path / "packed.safetensors", state(tiny_model)
    with quantize_experts(tiny_model, allocation_for(tiny_model), group_size=32, attention_bits=4) as quantized:
        quantized.save_packed(path)
        during = state(tiny_model)
    with load_packed(tiny_model, path, storage) as again:
        assert storage == "packed" or same(during, state(tiny_model))
        assert again.packed.keys() == quantized.packed.keys() and again.model_bytes == quantized.model_bytes
        assert again.linears.keys() == quantized.linears.keys() != set()
        for bank, expert, projection in quantized.packed:
            one, other = (each.matrix(bank, projection, expert) for each in (again, quantized))
            assert torch.equal(one, other)
    assert same(before, state(tiny_model))


def test_a_packed_file_of_another_model_is_refused_by_its_matrix(tiny_model, tmp_path) -> None:
    with quantize_experts(tiny_model, allocation_for(tiny_model), group_size=32, attention_bits=4) as quantized:
        pass
    (bank, _, projection), matrix = next(iter(quantized.packed.items()))
    for experts, linears, told in (
        ({(bank, 99, projection): matrix}, {}, f"{bank}, expert 99, {projection} of shape .* has none there"),
        ({("other", 0, projection): matrix}, {}, "other, expert 0, .* has none there"),
        ({}, {"model.nothing": matrix}, "holds model.nothing of shape .* Give the model that was quantized"),
    ):
        write_packed(tmp_path / "other", experts, Quantizer("rtn", 32, True), linears)
        with pytest.raises(PackedFileError, match=told):
            load_packed(tiny_model, tmp_path / "other")


def test_refusals_name_both_sides(tiny_model) -> None:
    before = state(tiny_model)
    allocation = allocation_for(tiny_model)
    name = next(iter(allocation.bits))
    foreign = Allocation({**allocation.bits, "model.layers.99.experts": np.array([2])}, (2,), 0, 0, False, 0, 2)
    foreign.bits.pop(name)
    with pytest.raises(QuantizationError, match=f"without bits: {name}.*lacks: model.layers.99.experts"):
        quantize_experts(tiny_model, foreign)
    short = Allocation({**allocation.bits, name: np.array([2, 3])}, (2, 3), 0, 0, False, 0, 2)
    with pytest.raises(QuantizationError, match=r"experts; the allocation's bits have shape \(2,\)"):
        quantize_experts(tiny_model, short)
    with pytest.raises(QuantizationError, match=r"widths \[7\] are not offered"):
        quantize_experts(tiny_model, allocation_for(tiny_model, (7,)))
    with pytest.raises(SettingsError, match="no quantizer 'awq' here; choose one of: rtn, hqq, gptq"):
        quantize_experts(tiny_model, allocation, method="awq")
    with pytest.raises(QuantizationError, match="'gptq' looks at what enters the experts; give it calibration samples"):
        quantize_experts(tiny_model, allocation, method="gptq")
    with pytest.raises(QuantizationError, match="storage must be one of values, packed; got 'disk'"):
        quantize_experts(tiny_model, allocation, storage="disk")
    with pytest.raises(QuantizationError, match="has no shared experts that could have 4 bits"):
        quantize_experts(tiny_model, allocation, shared_bits=4)
    with pytest.raises(SettingsError, match="attention_bits must be one of"):
        quantize_experts(tiny_model, allocation, attention_bits=7)
    with (
        quantize_experts(tiny_model, allocation, group_size=32),
        pytest.raises(QuantizationError, match="quantized now"),
    ):
        quantize_experts(tiny_model, allocation)
    assert same(before, state(tiny_model))


def test_cancel_puts_the_original_back(tiny_model) -> None:
    before, seen = state(tiny_model), []
    stop = threading.Event()

    def hook(progress) -> None:
        seen.append(progress)
        if progress.done == 2:
            stop.set()

    with pytest.raises(Cancelled):
        quantize_experts(tiny_model, allocation_for(tiny_model), group_size=32, progress=hook, cancel=stop)
    assert [p.done for p in seen] == [1, 2]
    assert same(before, state(tiny_model))
    with quantize_experts(tiny_model, allocation_for(tiny_model), group_size=32) as quantized:  # the lock is free again
        assert quantized.applied


def test_other_threads_wait_for_the_original(tiny_model) -> None:
    before, found = state(tiny_model), []

    def other() -> None:
        with exclusive(tiny_model):
            found.append(same(before, state(tiny_model)))

    with quantize_experts(tiny_model, allocation_for(tiny_model), group_size=32) as quantized:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        wrong = []

        def steal() -> None:
            try:
                quantized.restore()
            except QuantizationError as refused:
                wrong.append(str(refused))

        thief = threading.Thread(target=steal)
        thief.start()
        thief.join(5)
        assert "Only the thread" in wrong[0]
    thread.join(5)
    assert found == [True]
