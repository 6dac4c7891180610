"""How fast experts are quantized, beside other software doing the same: `python -m tests.benchmarks.quantizers`.

Experts of the 30B shape (gate and up 768 × 2048, down 2048 × 768, groups of 128). Weights are heavy-tailed (Student's
t, 3 degrees of freedom, times 0.02), inputs normal with channels that hang together; seed 0. Two tables, in one run:

* `--table quantizers`: seconds and output error of rtn, hqq and gptq here, of the hqq package called directly, of
  auto-round's searched rounding (`--auto-round PYTHON`) and of GPTQModel's solver (`--gptqmodel PYTHON`); the two
  interpreters are those of environments that have the packages, and get the same weights and inputs in a file.
* `--table widths`: every width of the own grid, with and without the clip search, packing and unpacking.

Times are processor seconds, so that other work on the machine counts little; those for a layer of 128 experts are the
measured ones scaled up, and are labelled so.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from mode_core.quantization import QUANTIZERS, WIDTHS, Codes, dequantize, expert_bytes, quantize, search
from mode_core.quantization.gptq import gptq
from mode_core.quantization.hqq import hqq, hqq_package
from mode_core.quantization.packing import PackedMatrix, pack_matrices
from mode_core.statistics import BankShape

HIDDEN, INTERMEDIATE, LAYER, GROUP = 2048, 768, 128, 128
ROOT = Path(__file__).resolve().parents[2]
AUTO_ROUND = """
import sys, time, torch
from safetensors.torch import load_file, save_file
from mode_core.models import ensure_torchvision
ensure_torchvision()
from auto_round.data_type.int import quant_tensor_opt_rtn_sym
torch.set_num_threads(int(sys.argv[4]))
given, made, began = load_file(sys.argv[1]), {}, time.process_time()
for name in given:
    if name.startswith("weight"):
        made[name] = quant_tensor_opt_rtn_sym(given[name].clone(), bits=int(sys.argv[3]), group_size=128)[0].float()
seconds = time.process_time() - began
save_file({k: v.contiguous() for k, v in made.items()}, sys.argv[2])
print("SECONDS", seconds)
"""
GPTQMODEL = """
import sys, time, torch
from safetensors.torch import load_file, save_file
from mode_core.models import ensure_torchvision
ensure_torchvision()
from gptqmodel import QuantizeConfig
from gptqmodel.quantization.gptq import GPTQ
torch.set_num_threads(int(sys.argv[4]))
settings = QuantizeConfig(bits=int(sys.argv[3]), group_size=128, sym=True, desc_act=False, act_group_aware=False,
                          damp_percent=0.01, mse=2.4)
given, made, began = load_file(sys.argv[1]), {}, time.process_time()
with torch.inference_mode():
    for name in given:
        if not name.startswith("weight"):
            continue
        _, expert, projection = name.split(".")
        entering = given[f"inputs.{expert}.{'down' if projection == 'down' else 'up'}"]
        linear = torch.nn.Linear(*reversed(given[name].shape), bias=False)
        linear.weight.data = given[name].clone()
        solver = GPTQ(linear, qcfg=settings)
        solver.quantizer.configure(perchannel=True)
        solver.add_batch(entering, entering[:, :1], 0)
        made[name] = solver.quantize()[0].float().clone()
seconds = time.process_time() - began
save_file(made, sys.argv[2])
print("SECONDS", seconds)
"""


def seconds(work: Callable[[], object]) -> tuple[float, object]:
    """Processor seconds of one call, all threads together, and its result."""
    begun = time.process_time()
    result = work()
    return time.process_time() - begun, result


def drawn(experts: int, tokens: int) -> dict[str, Tensor]:
    """`weight.<expert>.<projection>` and `inputs.<expert>.<side>` `[tokens, in]`, float32; seed 0."""
    torch.manual_seed(0)
    entrance, exit_ = (INTERMEDIATE, HIDDEN), (HIDDEN, INTERMEDIATE)
    mixing = {
        side: torch.randn(size, size) / size**0.5 + 0.5 * torch.eye(size)
        for side, size in (("up", HIDDEN), ("down", INTERMEDIATE))
    }
    made = {}
    for expert in range(experts):
        for projection, shape in (("gate", entrance), ("up", entrance), ("down", exit_)):
            made[f"weight.{expert}.{projection}"] = torch.distributions.StudentT(3.0).sample(shape) * 0.02
        for side, matrix in mixing.items():
            made[f"inputs.{expert}.{side}"] = torch.randn(tokens, len(matrix)) @ matrix
    return made


def output_error(given: dict[str, Tensor], made: dict[str, Tensor]) -> float:
    """Mean over matrices of ‖x(ŵ−w)ᵀ‖² / ‖xwᵀ‖² on their own inputs."""
    found = []
    for name, values in made.items():
        _, expert, projection = name.split(".")
        inputs = given[f"inputs.{expert}.{'down' if projection == 'down' else 'up'}"]
        off = inputs @ (values - given[name]).mT
        found.append(float(off.square().sum() / (inputs @ given[name].mT).square().sum()))
    return sum(found) / len(found)


def ours(given: dict[str, Tensor], method: str, bits: int) -> dict[str, Tensor]:
    """All matrices by one of the own quantizers; gptq sums each expert's Hessians too, gate and up in one solution."""
    names = [name for name in given if name.startswith("weight")]
    if method != "gptq":
        make = hqq if method == "hqq" else lambda stack, bits, size: quantize(stack, bits, size)
        return {name: dequantize(make(given[name][None], bits, GROUP))[0] for name in names}
    made = {}
    for expert in sorted({name.split(".")[1] for name in names}):
        for side, projections in (("up", ("gate", "up")), ("down", ("down",))):
            inputs = given[f"inputs.{expert}.{side}"]
            stack = torch.cat([given[f"weight.{expert}.{projection}"] for projection in projections])[None]
            values = dequantize(gptq(stack, (inputs.mT @ inputs)[None], bits, GROUP))[0]
            parts = zip(projections, values.chunk(len(projections)), strict=True)
            made |= {f"weight.{expert}.{projection}": part for projection, part in parts}
    return made


def hqq_alone(given: dict[str, Tensor], bits: int) -> dict[str, Tensor]:
    """All matrices by the hqq package, without anything of ours."""
    quantizer = hqq_package().Quantizer
    made = {}
    for name, weight in given.items():
        if name.startswith("weight"):
            made[name] = quantizer.dequantize(
                *quantizer.quantize(weight, nbits=bits, group_size=GROUP, axis=1, device="cpu")
            ).float()
    return made


def elsewhere(python: str, code: str, given: dict[str, Tensor], bits: int) -> tuple[float, dict[str, Tensor]]:
    """Seconds and values of other software in an environment of its own, on the same weights and inputs."""
    from safetensors.torch import load_file

    with tempfile.TemporaryDirectory() as folder:
        into, out = Path(folder) / "given.safetensors", Path(folder) / "made.safetensors"
        save_file(given, into)
        command = [python, "-c", code, str(into), str(out), str(bits), str(torch.get_num_threads())]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
        if done.returncode:
            raise SystemExit(f"{python} failed:\n{done.stderr[-2000:]}")
        spent = float(done.stdout.rsplit("SECONDS", 1)[1])
        return spent, load_file(out)


def quantizer_table(chosen: argparse.Namespace) -> None:
    """Print seconds and output error of every quantizer at every width asked for."""
    given = drawn(chosen.experts, chosen.tokens)
    hqq_package()  # imported before the clock runs
    print(
        f"{chosen.experts} experts, {chosen.tokens} tokens each, {torch.get_num_threads()} threads of "
        f"{os.cpu_count()}, load {os.getloadavg()[0]:.1f}; processor seconds, scaled up to {LAYER} experts"
    )
    print(f"{'bits':>4}  {'quantizer':<34} {'s/expert':>9} {'×128 scaled':>12}  output error")
    for bits in chosen.bits:
        rows = [(f"{method} (here)", *seconds(partial(ours, given, method, bits))) for method in QUANTIZERS]
        rows.append(("hqq package alone", *seconds(partial(hqq_alone, given, bits))))
        if chosen.auto_round and bits >= 2:
            rows.append(("auto-round, searched rounding", *elsewhere(chosen.auto_round, AUTO_ROUND, given, bits)))
        if chosen.gptqmodel and bits in (2, 3, 4, 8):
            rows.append(("GPTQModel, gptq with its search", *elsewhere(chosen.gptqmodel, GPTQMODEL, given, bits)))
        for name, spent, made in rows:
            one = spent / chosen.experts
            print(
                f"{bits:>4}  {name:<34} {one:>9.2f} {one * LAYER:>12.0f}  {output_error(given, made):.5f}", flush=True
            )


def plain(weights: Tensor, bits: int) -> Codes:
    """The same grid without the search: one step only."""
    kept, search.SEARCH_STEPS = search.SEARCH_STEPS, 1
    try:
        return quantize(weights, bits)
    finally:
        search.SEARCH_STEPS = kept


def width_row(weights: Tensor, bits: int, shape: BankShape) -> str:
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
        f"{symmetric / experts * LAYER:>12.0f} {error:>11.5f} {_bytes(matrices, shape, bits, experts)}"
    )


def _bytes(matrices: list[PackedMatrix], shape: BankShape, bits: int, experts: int) -> str:
    packed, counted = sum(matrix.nbytes for matrix in matrices), int(expert_bytes(shape, (bits,))[0]) * experts
    return f"{packed / experts:>11,.0f} {'=' if packed == counted else f'≠ {counted / experts:,.0f}'} counted"


def width_table(chosen: argparse.Namespace) -> None:
    """Print seconds of the own grid at every width asked for."""
    shape = BankShape(0, LAYER, HIDDEN, INTERMEDIATE, 8)
    draw = torch.Generator().manual_seed(0)
    weights = torch.randn(3 * chosen.experts, INTERMEDIATE, HIDDEN, generator=draw) * 0.02
    print(f"{chosen.experts} experts, normal weights, {torch.get_num_threads()} threads of {os.cpu_count()}; processor "
          "seconds unless said otherwise")  # fmt: skip
    print("bits    plain  symmetric  asymmetric  packing  to bf16  ×128 scaled  rel. error  bytes/expert")
    for bits in chosen.bits:
        print(width_row(weights, bits, shape), flush=True)


def main() -> None:
    """Print the tables."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--table", choices=("quantizers", "widths"), nargs="+", default=["quantizers", "widths"])
    options.add_argument("--experts", type=int, default=2, help="experts measured")
    options.add_argument("--tokens", type=int, default=1024, help="tokens routed to each expert")
    options.add_argument("--bits", type=int, nargs="+", default=[2, 3, 4], choices=WIDTHS)
    options.add_argument("--auto-round", help="interpreter of an environment with auto-round")
    options.add_argument("--gptqmodel", help="interpreter of an environment with GPTQModel")
    chosen = options.parse_args()
    print(json.dumps({"torch": torch.__version__, "machine": os.uname().machine}))
    if "quantizers" in chosen.table:
        quantizer_table(chosen)
    if "widths" in chosen.table:
        width_table(chosen)


if __name__ == "__main__":
    main()
