"""How fast experts are quantized, packed and unpacked: `python -m tests.benchmarks.quantizers [--experts 2]`.

Experts of the 30B shape (three matrices of 768 × 2048, groups of 128), weights normal with seed 0. Prints one table;
"plain" is round to nearest without the clip search, the floor of what any search can take. Times are
processor seconds, so that other work on the machine does not count; those for a layer of 128 experts are the
measured ones scaled up, and are labelled so.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

import torch

from mode_core.quantization import WIDTHS, Codes, dequantize, expert_bytes, grids, quantize
from mode_core.quantization.packing import PackedMatrix, pack_matrices
from mode_core.statistics import BankShape

HIDDEN, INTERMEDIATE, LAYER = 2048, 768, 128


def seconds(work: Callable[[], object]) -> tuple[float, object]:
    """Processor seconds of one call, all threads together, and its result."""
    begun = time.process_time()
    result = work()
    return time.process_time() - begun, result


def plain(weights: torch.Tensor, bits: int) -> Codes:
    """The same grid without the search: one step only."""
    kept, grids.SEARCH_STEPS = grids.SEARCH_STEPS, 1
    try:
        return quantize(weights, bits)
    finally:
        grids.SEARCH_STEPS = kept


def row(weights: torch.Tensor, bits: int, shape: BankShape) -> str:
    """Times of one width, and whether the bytes are those that were counted."""
    floor, _ = seconds(lambda: plain(weights, bits))
    symmetric, codes = seconds(lambda: quantize(weights, bits))
    asymmetric, _ = seconds(lambda: quantize(weights, bits, symmetric=False))
    packing, matrices = seconds(lambda: pack_matrices(codes))
    unpacking, _ = seconds(lambda: [matrix.dequantize(torch.bfloat16) for matrix in matrices])
    error = float((dequantize(codes) - weights).square().mean() / weights.square().mean())
    experts = len(weights) // 3
    return (
        f"{bits:>4} {floor:>8.2f} {symmetric:>10.2f} {asymmetric:>11.2f} {packing:>8.2f} {unpacking:>9.2f} "
        f"{symmetric / experts * LAYER:>10.0f} {error:>11.5f} {_bytes(matrices, shape, bits, experts)}"
    )


def _bytes(matrices: list[PackedMatrix], shape: BankShape, bits: int, experts: int) -> str:
    packed, counted = sum(matrix.nbytes for matrix in matrices), int(expert_bytes(shape, (bits,))[0]) * experts
    return f"{packed / experts:>11,.0f} {'=' if packed == counted else f'≠ {counted / experts:,.0f}'} counted"


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--experts", type=int, default=2, help="experts measured")
    options.add_argument("--bits", type=int, nargs="+", default=list(WIDTHS), choices=WIDTHS)
    chosen = options.parse_args()
    shape = BankShape(0, LAYER, HIDDEN, INTERMEDIATE, 8)
    weights = torch.randn(3 * chosen.experts, INTERMEDIATE, HIDDEN, generator=torch.Generator().manual_seed(0)) * 0.02
    print(f"{chosen.experts} experts, {weights.numel() / 1e6:.1f} M weights, {torch.get_num_threads()} threads of "
          f"{os.cpu_count()}, groups of 128; processor seconds unless said otherwise")  # fmt: skip
    print("bits    plain  symmetric  asymmetric  packing  to bf16  ×128 scaled  rel. error  bytes/expert")
    for bits in chosen.bits:
        print(row(weights, bits, shape), flush=True)


if __name__ == "__main__":
    main()
