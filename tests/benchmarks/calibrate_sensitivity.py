"""What sensitivity costs: against its floor, and against the paper's released algorithm at equal numbers.

    python -m tests.benchmarks.calibrate_sensitivity [--experts 2] [--tokens 64] [--batches 32] [--released-experts 1]

Experts of the shape of Qwen3-VL-30B-A3B (hidden 2048, inner 768), random weights in bfloat16, three widths, group size
128. A bank of only a few experts keeps this short; each expert costs the same whatever their number. Every
batch brings `--tokens` tokens to each expert (64 on average means 1,024 tokens in a bank of 128 with top-8).

1. The floor: (1 + widths) forward passes of each expert in float32, and one quantization of each expert and width.
2. The released algorithm, written plainly: for each expert, each modality and each width, search the scales by 80 steps
   of clipping (every step's error over all groups of the matrix), then two forward passes of the expert over all
   inputs of that modality, which it keeps in memory. Both must give the same numbers, or this ends with an error.

Seconds are those that this process computed, on one thread.
"""

from __future__ import annotations

import argparse
import statistics

import torch
from torch import Tensor

from mode_core.calibration import CalibrationSettings
from mode_core.calibration.sensitivity import RoundedBank
from mode_core.models import find_banks
from mode_core.quantization.grids import fake_quantize
from tests.benchmarks.calibrate_overhead import timed
from tests.benchmarks.large_model import SHAPE

BITS = (2, 3, 4)
POOLED = 4  # batches whose tokens wait to be measured together
SETTINGS = CalibrationSettings(bits=BITS, stack_bytes=0)


def bank_of(experts: int, seed: int = 0, **sizes: int):
    """A bank of random experts, as transformers' Qwen3-VL-MoE holds it; `sizes` in place of its own."""
    from mode_core.models import ensure_torchvision

    ensure_torchvision()
    from transformers import Qwen3VLMoeTextConfig
    from transformers.models.qwen3_vl_moe.modeling_qwen3_vl_moe import Qwen3VLMoeTextSparseMoeBlock

    torch.manual_seed(seed)
    counts = {"num_experts": experts, "num_local_experts": experts, "num_experts_per_tok": 1}
    config = Qwen3VLMoeTextConfig(**SHAPE | counts | sizes)
    config._experts_implementation = "grouped_mm"
    block = Qwen3VLMoeTextSparseMoeBlock(config).bfloat16().requires_grad_(False)
    for parameter in block.parameters():
        parameter.normal_(0.0, 0.02)
    layers = torch.nn.ModuleList([torch.nn.ModuleDict({"mlp": block})])
    return next(iter(find_banks(torch.nn.ModuleDict({"layers": layers})).values()))


def released_scales(weights: Tensor, bits: int, group: int) -> Tensor:
    """Clip search over 80 steps, all groups of a matrix `[out, in]` at once: scales `[groups, 1]`."""
    rows, highest = weights.float().reshape(-1, group), 2 ** (bits - 1) - 1
    top = rows.abs().amax(dim=1, keepdim=True)
    best, found = torch.full_like(top, torch.inf), torch.zeros_like(top)
    for step in range(80):
        scale = ((1 - step / 100) * top / highest).half().float()
        rounded = (rows / scale).round().clamp(-highest - 1, highest) * scale
        error = (rounded - rows).abs().pow(2.4).sum(dim=1, keepdim=True)
        better = error < best
        best, found = torch.where(better, error, best), torch.where(better, scale, found)
    return found


def released_rounded(weights: Tensor, bits: int, group: int) -> Tensor:
    """A matrix on its grid, float32."""
    scale, highest = released_scales(weights, bits, group), 2 ** (bits - 1) - 1
    rows = weights.float().reshape(-1, group)
    return ((rows / scale).round().clamp(-highest - 1, highest) * scale).reshape(weights.shape)


def swiglu(states: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """One expert: down(silu(gate·x) ∘ up·x)."""
    gate, rise = (states @ up.mT).chunk(2, dim=-1)
    return (torch.nn.functional.silu(gate) * rise) @ down.mT


def released(bank, inputs: dict[tuple[int, str], Tensor]) -> dict[tuple[int, str], Tensor]:
    """Summed squared output error `[B]` of each (expert, modality) over all its inputs."""
    found = {}
    for (expert, modality), states in inputs.items():
        up, down = bank.fused_one("up", expert), bank.fused_one("down", expert)
        sums = []
        for bits in BITS:
            rounded = [released_rounded(w, bits, SETTINGS.group_size) for w in (up, down)]
            exact, moved = swiglu(states.float(), up.float(), down.float()), swiglu(states.float(), *rounded)
            sums.append((exact - moved).square().sum(dtype=torch.float64))
        found[expert, modality] = torch.stack(sums)
    return found


def ours(bank, inputs: dict[tuple[int, str], Tensor]) -> dict[tuple[int, str], Tensor]:
    """The same through `RoundedBank`."""
    rounded = RoundedBank.of(bank, SETTINGS, stack=False)
    states = torch.cat(list(inputs.values()))
    experts = torch.cat([torch.full((len(part), 1), expert) for (expert, _), part in inputs.items()])
    errors = rounded.errors([(states, experts, torch.ones(experts.shape))])[0][:, 0]
    parts = errors.split([len(part) for part in inputs.values()])
    return {key: part.sum(dim=0, dtype=torch.float64) for key, part in zip(inputs, parts, strict=True)}


def against_the_floor(experts: int, tokens: int, batches: int, rounds: int = 2) -> None:
    """Print what searching and measuring take, beside the floor."""
    bank = bank_of(experts)
    states = torch.randn(experts * tokens, SHAPE["hidden_size"]).bfloat16()
    chosen = torch.arange(experts).repeat_interleave(tokens)[:, None]
    weights, held = torch.ones(chosen.shape).bfloat16(), {}
    search = timed(lambda: held.update(rounded=RoundedBank.of(bank, SETTINGS, stack=False)))

    def quantize_once() -> None:
        for expert in range(experts):
            for bits in BITS:
                for side in ("up", "down"):
                    fake_quantize(bank.fused_one(side, expert), bits, SETTINGS.group_size)

    def forwards() -> None:
        for _ in range(1 + len(BITS)):
            for expert, part in enumerate(states.float().split(tokens)):
                swiglu(part, bank.fused_one("up", expert).float(), bank.fused_one("down", expert).float())

    works = {
        "measure": lambda: held["rounded"].errors([(states, chosen, weights)]),
        "together": lambda: held["rounded"].errors([(states, chosen, weights)] * POOLED),
        "forwards": forwards,
        "plain": lambda: bank.module(states, chosen, weights),
    }
    seconds = {name: [] for name in works}
    for turn in range(rounds + 1):
        for name, work in works.items():
            seconds[name] += [timed(work)] if turn else [0 * timed(work)][:0]
    took = {name: statistics.median(values) for name, values in seconds.items()}
    floor = timed(quantize_once)
    print(f"Bank of {experts} experts, {tokens} tokens each per batch, widths {BITS}, {batches} batches.\n")
    print("| | seconds | |\n|---|---:|---|")
    print(f"| the model's own bank forward, bfloat16, one batch | {took['plain']:.3f} | |")
    print(f"| (1 + widths) expert forwards, float32, one batch | {took['forwards']:.3f} | |")
    print(f"| ours, one batch | {took['measure']:.3f} | {took['measure'] / took['plain']:.2f} × plain bank forward |")
    print(f"| one quantization of each expert and width | {floor:.3f} | |")
    print(f"| ours, scales of each expert and width, with their errors | {search:.3f} | |")
    each = took["together"] / POOLED
    print(f"| ours, a batch of {POOLED} that are measured together | {each:.3f} | {each / took['plain']:.2f} × plain |")
    whole, least = search + batches * each, floor + batches * took["forwards"]
    print(f"| ours, {batches} batches | {whole:.3f} | {whole / least:.2f} × the floor of {least:.3f} |\n")


def against_the_released(experts: int, tokens: int) -> None:
    """Print both times, after making sure that the numbers agree."""
    bank = bank_of(experts)
    inputs = {
        (expert, modality): torch.randn(count, SHAPE["hidden_size"]).bfloat16()
        for expert in range(experts)
        for modality, count in (("text", tokens), ("vision", 4 * tokens))
    }
    found: dict[str, dict] = {}
    mine = timed(lambda: found.update(ours=ours(bank, inputs)))
    theirs = timed(lambda: found.update(released=released(bank, inputs)))
    for key, sums in found["released"].items():
        torch.testing.assert_close(found["ours"][key], sums, rtol=1e-4, atol=0)
    print(f"{experts} experts, {tokens} text and {4 * tokens} vision tokens each, widths {BITS}: equal to 1e-4.\n")
    print("| | seconds | |\n|---|---:|---:|")
    print(f"| released algorithm | {theirs:.2f} | |\n| ours | {mine:.2f} | {theirs / mine:.1f} times faster |")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experts", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--batches", type=int, default=32)
    parser.add_argument("--released-experts", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with torch.no_grad():
        against_the_floor(options.experts, options.tokens, options.batches)
        against_the_released(options.released_experts, options.tokens)


if __name__ == "__main__":
    main()
