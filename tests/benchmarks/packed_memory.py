"""What a model that computes from packed codes takes and costs: `python -m tests.benchmarks.packed_memory`.

A made-up Qwen3-VL-MoE decoder in bfloat16 with experts of the 30B shape (768 × 2048), random weights, seed 0. For every
storage of the quantized experts one row: bytes of parameters and codes, resident memory of the process, seconds of one
forward pass of `--tokens` tokens. Resident memory holds the interpreter and its libraries too (first row).
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import psutil
import torch

from mode_core.allocation.records import Allocation
from mode_core.models import LoadedModel, ensure_torchvision, find_banks
from mode_core.quantization import expert_bytes, quantize_experts, rest_bytes
from mode_core.statistics import BankShape

MB = 1e6
PASSES = 2
STORAGES = ("original", "values memory", "packed memory", "packed disk")


def made_up(layers: int, experts: int) -> LoadedModel:
    """The model, without a processor."""
    ensure_torchvision()
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    config = Qwen3MoeConfig(
        vocab_size=1000,
        hidden_size=2048,
        moe_intermediate_size=768,
        num_hidden_layers=layers,
        num_experts=experts,
        num_experts_per_tok=8,
        num_attention_heads=16,
        num_key_value_heads=4,
        head_dim=128,
        dtype="bfloat16",
    )
    with torch.device("meta"):
        model = Qwen3MoeForCausalLM(config).bfloat16()
    model = model.to_empty(device="cpu").eval().requires_grad_(False)
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    return LoadedModel(model, None, find_banks(model), "made up", "made up", "none")


def resident() -> float:
    """Resident memory of this process in MB, after what was freed went back to the system (where glibc can)."""
    gc.collect()
    with suppress(OSError, AttributeError):  # another system's C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    return psutil.Process().memory_info().rss / MB


def forward(loaded: LoadedModel, tokens: int) -> float:
    """Seconds of the fastest of some passes."""
    ids = torch.arange(tokens)[None] % 1000
    spent = []
    for _ in range(PASSES):
        began = time.perf_counter()
        with torch.no_grad():
            loaded.model(input_ids=ids, use_cache=False)
        spent.append(time.perf_counter() - began)
    return min(spent)


def row(name: str, loaded: LoadedModel, weights: int, tokens: int) -> None:
    """One line of the table, measured now."""
    print(f"{name:<40} {weights / MB:>10.1f} {resident():>10.1f} {forward(loaded, tokens):>10.2f}", flush=True)


def measure(chosen: argparse.Namespace) -> None:
    """One storage in this process: a line of the table."""
    before = resident()
    loaded = made_up(chosen.layers, chosen.experts)
    whole = sum(p.numel() * p.element_size() for p in loaded.model.parameters())
    if chosen.only == "original":
        row("original", loaded, whole, chosen.tokens)
        print(f"{'(interpreter and libraries in it)':<40} {'':>10} {before:>10.1f}")
        return
    bits = {name: np.full(bank.experts, chosen.bits) for name, bank in loaded.banks.items()}
    allocation = Allocation(bits, (chosen.bits,), 0.0, 0.0, False, 0.0, float(chosen.bits))
    shape = BankShape(0, chosen.experts, 2048, 768, 8)
    counted = rest_bytes(loaded, 4) + chosen.layers * chosen.experts * int(expert_bytes(shape, (chosen.bits,))[0])
    storage, originals = chosen.only.split()
    given = {"attention_bits": 4, "storage": storage, "originals": originals}
    with quantize_experts(loaded, allocation, **given) as quantized:
        row(f"{storage}, originals in {originals}", loaded, quantized.live_bytes or whole, chosen.tokens)
    if chosen.only == STORAGES[-1]:
        print(f"counted for the packed model: {counted / MB:.1f} MB")


def main() -> None:
    """Print the table, every line from a process of its own."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--layers", type=int, default=4)
    options.add_argument("--experts", type=int, default=16)
    options.add_argument("--bits", type=int, default=3)
    options.add_argument("--tokens", type=int, default=64)
    options.add_argument("--only", choices=STORAGES, help="one line of the table, in this process")
    chosen = options.parse_args()
    if chosen.only:
        measure(chosen)
        return
    print(
        f"{chosen.layers} layers × {chosen.experts} experts at {chosen.bits} bits, {torch.get_num_threads()} threads "
        f"of {os.cpu_count()}, load {os.getloadavg()[0]:.1f}"
    )
    print(f"{'':<40} {'weights MB':>10} {'process MB':>10} {'s/forward':>10}", flush=True)
    for storage in STORAGES:
        command = [sys.executable, "-m", "tests.benchmarks.packed_memory", *sys.argv[1:], "--only", storage]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
