"""Which quantizer changes the output least, on heavy-tailed random weights and on the trained model.

Expected at 3 bits: gptq < hqq < rtn. At 2 bits hqq comes last: it keeps the scale of a group's full range and moves
the zero point alone, so with four levels and heavy tails most weights fall on one level; the clip search of rtn gives
up the tails instead. That is what the package gives (see `test_hqq`), and the order is asserted as it is.
"""

import numpy as np
import pytest
import torch

from mode_core.allocation.records import Allocation
from mode_core.models import PADDING
from mode_core.probing.probe import Probe
from mode_core.quantization import GptqSettings, dequantize, quantize, quantize_experts
from mode_core.quantization.gptq import gptq
from mode_core.quantization.hqq import hqq
from mode_core.samples import read_samples
from tests.conftest import BUNDLED

pytest.importorskip("hqq", reason="the optional package hqq is not installed")
ORDER = {2: ("gptq", "rtn", "hqq"), 3: ("gptq", "hqq", "rtn")}


@pytest.mark.parametrize("bits", [2, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_on_heavy_tailed_weights(bits: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    weights = torch.tensor(draw.standard_t(3, (2, 48, 256)) * 0.02, dtype=torch.float32)
    mixing = draw.normal(size=(256, 256)) / 16 + 0.3 * np.eye(256)
    seen, unseen = (torch.tensor(draw.normal(size=(2, 1500, 256)) @ mixing, dtype=torch.float32) for _ in range(2))
    made = {
        "rtn": quantize(weights, bits, 64),
        "hqq": hqq(weights, bits, 64),
        "gptq": gptq(weights, seen.mT @ seen, bits, 64),
    }
    errors = {name: float((unseen @ (dequantize(codes) - weights).mT).square().mean()) for name, codes in made.items()}
    assert sorted(errors, key=errors.get) == list(ORDER[bits])


def output_errors(loaded, samples, quantized: dict) -> dict:
    """Mean over banks of ‖E(x) − Ê(x)‖² / ‖E(x)‖², summed over the tokens of samples and their experts."""
    off = {key: dict.fromkeys(loaded.banks, 0.0) for key in quantized}
    energy = dict.fromkeys(loaded.banks, 0.0)

    def observe(seen) -> None:
        bank, used = seen.bank, (seen.encoded.modality != PADDING).flatten()
        for expert in range(bank.experts):
            states = seen.states[((seen.experts == expert) & used[:, None]).any(dim=1)].float()
            if not len(states):
                continue
            output = plain(bank, states, expert)
            energy[bank.name] += float(output.square().sum())
            for key, model in quantized.items():
                off[key][bank.name] += float((plain(bank, states, expert, model) - output).square().sum())

    with Probe(loaded, (), observe) as probe:
        probe.run(loaded.encode(samples, answers=True))
    return {key: float(np.mean([off[key][name] / energy[name] for name in energy])) for key in off}


def plain(bank, states: torch.Tensor, expert: int, model=None) -> torch.Tensor:
    """One expert in float32, with its own matrices or those of a quantized model."""

    def matrix(projection: str) -> torch.Tensor:
        if model is None:
            return bank.matrix(projection, expert).float()
        return model.packed[bank.name, expert, projection].dequantize()

    inner = torch.nn.functional.silu(states @ matrix("gate").mT) * (states @ matrix("up").mT)
    return inner @ matrix("down").mT


def test_on_the_trained_model(bundled_model) -> None:
    samples = read_samples(BUNDLED / "calibration")
    seen, unseen = samples[0::2], samples[1::8]  # pictures and questions of the same kinds, none of them twice
    widths = {name: bank.experts for name, bank in bundled_model.banks.items()}
    settings = GptqSettings(batch_size=32, least_tokens=16)
    made = {}
    for bits in ORDER:
        everywhere = {name: np.full(count, bits) for name, count in widths.items()}
        allocation = Allocation(everywhere, (bits,), 0.0, 0.0, False, 0.0, float(bits))
        for method in ("rtn", "hqq", "gptq"):
            with quantize_experts(bundled_model, allocation, method, 32, samples=seen, gptq=settings) as quantized:
                made[bits, method] = quantized
    errors = output_errors(bundled_model, unseen, made)
    for bits, order in ORDER.items():
        found = {method: errors[bits, method] for method in order}
        assert sorted(found, key=found.get) == list(order), found
