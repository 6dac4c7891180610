"""The verb `allocate`: a run and a budget → every expert's bits, proven optimal."""

from __future__ import annotations

import argparse
import re
import threading
from collections import Counter
from collections.abc import Mapping

import numpy as np

from mode_core.allocation import SCOPES, UNITS, Allocation, Solver
from mode_core.allocation.records import AllocationError
from mode_core.cli.verbs import measured, run_grid
from mode_core.errors import SettingsError
from mode_core.importance import CostTable, cost_table, support, support_summary
from mode_core.jobs import ProgressHook
from mode_core.quantization.sizes import expert_bytes
from mode_core.quantization.widths import METHOD_NAMES
from mode_core.runs.run import Run

Result = dict[str, object]


def add_budget_arguments(parser: argparse.ArgumentParser) -> None:
    """Budget, widths, and every constraint on them."""
    group = parser.add_argument_group("the budget")
    group.add_argument("--average-bits", type=float, help="mean bits of the experts' weights (default: 3)")
    group.add_argument("--budget-mb", type=float, help="instead: packed size of all experts in MB (10^6 bytes)")
    group.add_argument("--model-mb", type=float, help="instead: size of the whole model in MB (10^6 bytes)")
    group.add_argument("--attention-bits", type=int, help="width of attention under --model-mb (default: as it is)")
    group.add_argument("--shared-bits", type=int, help="width of shared experts there (default: as they are)")
    group.add_argument(
        "--trust-remote-code", action="store_true", help="run the model's own Python code to learn its parts there"
    )
    group.add_argument("--bits", type=int, nargs="+", default=[2, 3, 4], help="allowed widths (default: 2 3 4)")
    group.add_argument(
        "--scope", choices=SCOPES, default="bank", help="one budget per bank (the paper's) or for the model"
    )
    group.add_argument("--unit", choices=UNITS, default="expert", help="what shares one width (default: expert)")
    group.add_argument("--equality", action="store_true", help="spend the budget exactly, as the paper's solver does")
    for name, words in (("least", "fewest"), ("most", "most")):
        group.add_argument(
            f"--at-{name}", nargs="+", default=[], metavar="BITS=COUNT", help=f"{words} units at a width, e.g. 3=1"
        )
    group.add_argument(
        "--pin",
        nargs="+",
        action="extend",
        default=[],
        metavar="BANK.EXPERT=BITS",
        help="experts whose width you choose, banks and experts counted from 0, e.g. 0.5=4",
    )
    group.add_argument("--quantizer", choices=METHOD_NAMES, default="rtn", help="whose bytes count (default: rtn)")
    group.add_argument(
        "--prices", action="store_true", help="also solve every other unit and scope at this budget, to see their price"
    )


def allocate(options: argparse.Namespace, progress: ProgressHook, cancel: threading.Event) -> Result:
    """A run and a budget → an allocation, proven optimal."""
    run = Run.open(options.run)
    widths = tuple(sorted(options.bits))
    costs = cost_table(
        measured(run),
        method=options.method,
        key_ratio=options.key_ratio,
        signal=options.signal,
        vision_weight=options.vision_weight,
        bits=widths,
        min_support=options.min_support,
    )
    allocation = _solver(run, costs, options, options.unit, options.scope).solve(**_budget(run, options))
    if options.name:
        run.save_allocation(options.name, allocation)
    if options.out:
        allocation.save(options.out)
    counts = Counter(np.concatenate([bits.ravel() for bits in allocation.bits.values()]).tolist())
    each = "experts" if options.unit in ("expert", "layer") else "gate+up and down matrices"
    found = {
        "method": options.method,
        "average_bits": allocation.average_bits,
        f"{each.replace(' ', '_')}_at_each_width": {f"{width} bits": counts.get(width, 0) for width in widths},
        "predicted_damage": allocation.objective,
        "lower_bound": allocation.lower_bound,
        "proven_optimal": allocation.proven_optimal,
        "solver_seconds": allocation.seconds,
        "packed_bytes": allocation.bytes,
        "support": support_summary(support(measured(run), options.key_ratio, options.signal, options.min_support)),
        "kept_as": options.name or options.out or "nowhere (give --name or --out)",
    }
    if fixed := allocation.settings.get("fixed_bytes"):
        found |= {"bytes_beside_the_experts": fixed, "model_bytes": fixed + (allocation.bytes or 0)}
    if warning := allocation.settings.get("warning"):
        found["warning"] = warning
    return found | ({"prices": _prices(run, costs, options, allocation)} if options.prices else {})


def _solver(run: Run, costs: CostTable, options: argparse.Namespace, unit: str, scope: str) -> Solver:
    """Everything that was asked for but the budget, at one unit and scope."""
    from mode_core.importance.projections import by_projection

    split = "projection" in unit
    grid = run_grid(options, run) | {"by_projection": split, "method": options.quantizer}
    return Solver(
        by_projection(costs, measured(run)) if split else costs,
        costs.bits,
        scope,
        unit,
        options.equality,
        pairs("--at-least", options.at_least),
        pairs("--at-most", options.at_most),
        pins(run, options.pin),
        {bank.name: expert_bytes(bank.shape, costs.bits, **grid) for bank in measured(run)},
    )


def _budget(run: Run, options: argparse.Namespace) -> dict[str, float | None]:
    if sum(given is not None for given in (options.average_bits, options.budget_mb, options.model_mb)) > 1:
        raise SettingsError("Give one budget: --average-bits, --budget-mb or --model-mb, not both.")
    if options.model_mb is None:
        if options.attention_bits or options.shared_bits:
            raise SettingsError(
                "--attention-bits and --shared-bits belong to --model-mb, the budget of the whole model."
            )
        if options.budget_mb is None:
            return {"average_bits": options.average_bits or 3.0}
        return {"average_bits": None, "budget_bytes": round(options.budget_mb * 1e6)}
    from mode_core.quantization import rest_bytes

    around = (options.attention_bits, options.shared_bits)
    if not run.model_source:
        raise ValueError(f"The run {run.path} names no model, so --model-mb cannot count what surrounds the experts.")
    trusted = {"trust_remote_code": options.trust_remote_code}
    rest = rest_bytes(run.model_source, *around, method=options.quantizer, **run_grid(options, run), **trusted)
    return {"average_bits": None, "budget_bytes": round(options.model_mb * 1e6), "fixed_bytes": rest}


def _prices(run: Run, costs: CostTable, options: argparse.Namespace, chosen: Allocation) -> dict[str, str]:
    """Predicted damage of every unit and scope at the same budget, and how many times that of the chosen one."""
    budget, found = _budget(run, options), {}
    for unit in UNITS:
        for scope in SCOPES:
            try:
                objective = _solver(run, costs, options, unit, scope).solve(**budget).objective
            except AllocationError as refused:
                found[f"{unit}, {scope}"] = f"not possible: {refused}"
                continue
            times = f" ({objective / chosen.objective:.3g} times)" if chosen.objective > 0 else ""
            found[f"{unit}, {scope}"] = f"{objective:.4g}{times}"
    return found


def pairs(name: str, given: list[str]) -> dict[int, int] | None:
    """`["3=1", "2=4"]` → {3: 1, 2: 4}; None where nothing was given."""
    try:
        found = {int(width): int(count) for width, count in (text.split("=") for text in given)}
    except ValueError:
        raise SettingsError(f"{name} takes BITS=COUNT, such as 3=1; got {' '.join(given)}.") from None
    return found or None


def pins(run: Run, given: list[str]) -> Mapping[str, Mapping[int, int]] | None:
    """`["0.5=4"]` → the first bank → {5: 4}; None where nothing was given."""
    found: dict[str, dict[int, int]] = {}
    banks = list(measured(run).banks)
    for text in given:
        if (parts := re.fullmatch(r"(\d+)\.(\d+)=(\d+)", text)) is None:
            raise SettingsError(f"--pin takes BANK.EXPERT=BITS, such as 0.5=4; got {text}.")
        bank, expert, width = map(int, parts.groups())
        if bank >= len(banks):
            raise SettingsError(f"--pin {text}: the model has the banks 0 to {len(banks) - 1}.")
        found.setdefault(banks[bank], {})[expert] = width
    return found or None
