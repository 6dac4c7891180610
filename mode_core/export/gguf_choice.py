"""Which ggml type every layer's gate+up and down get: solved at the types' real bits, from 2.06 to 8.5 a weight.

The allocator sees types instead of widths: their real bytes, and the damage that each is predicted to do. Where a type
holds our codes and calibration measured that width on that grid, the damage is the measured one. Any other type's is
read off the measured widths at its own rounding error: damage against error, both as logarithms, beyond the ends in
proportion to the error (an estimate). Errors ‖W − Ŵ‖²/‖W‖² are taken on a few experts of every bank, with an
importance matrix weighted by it. The budget is the bytes that the allocation asked for takes in our own packing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mode_core.allocation import Allocation, AllocationError
from mode_core.allocation.solver import Solver
from mode_core.export.folder import ExportError
from mode_core.export.ggml_library import ggml_quantize
from mode_core.export.ggml_types import FILE_TYPES, PLAIN, QUANTIZED, TYPES, GgmlType, container, type_named
from mode_core.export.gguf_file import CHOSEN, importance_of
from mode_core.export.gguf_names import expert_tensor
from mode_core.export.refit import MODEL, costs_of, fit, loss_of
from mode_core.export.request import Request
from mode_core.export.target import Fitted
from mode_core.export.weights import Weights, open_weights
from mode_core.importance import CostTable
from mode_core.importance.projections import by_projection
from mode_core.quantization.quantizers import DATA_FREE
from mode_core.quantization.widths import DROPPED, UNTOUCHED, WIDTHS, group_length

if TYPE_CHECKING:
    from torch import Tensor

    from mode_core.export.target import Fitted, Target
    from mode_core.statistics import BankShape

PLAN, CODES, ALL = "plan", "codes", "all"  # what `types` may say beside names of types
LOOKED_AT, ROWS = 2, 64  # experts of a bank whose rounding errors are taken, and rows of their matrices at most
PARTS = (("gate", "up"), ("down",))  # what shares a type: the allocation's two columns


@dataclass(frozen=True)
class Choice:
    """A type that one side of a bank may get: `width` of the codes in it, `bytes` of one expert, predicted `damage` of
    all of them; `measured` where that is no estimate."""

    kind: GgmlType
    width: int
    bytes: int
    damage: float
    measured: bool


def fit_types(request: Request, target: Target) -> Fitted:
    """The allocation with a type for every expert tensor under `settings["ggml_types"]`.

    The option `types` says from which: `codes` (the default: those that hold our codes), `all` (K and IQ types too), a
    list of names, or `plan`: the allocation's own widths, solved again per layer and projection where it is finer, each
    in the smallest type that holds its codes.

    Raises:
        ExportError: no costs to solve with; a budget below the smallest types; a width that no type holds.
    """
    asked = request.options.get("types", CODES)
    weights = open_weights(request)
    if asked == PLAN:
        return _as_planned(request, target, weights)
    allocation, costs = request.allocation, request.costs or costs_of(request.allocation, request.statistics)
    if costs is None or request.statistics is None:
        raise ExportError(
            "Types are chosen by the costs that the allocation was solved with: give its run, or keep the allocation's "
            f"widths (types {PLAN!r})."
        )
    every = costs_of(replace(allocation, widths=request.statistics.bits), request.statistics) or costs
    every = every if np.ndim(next(iter(every.values()))) == 3 else by_projection(every, request.statistics)
    choices = _choices(request, weights, every, _asked_types(asked, bool(request.options.get("imatrix"))))
    weights.files.close()
    budget = _budget(request)
    solver = _solver(choices, weights.shapes)
    try:
        found = solver.solve(None, budget_bytes=budget)
    except AllocationError as refused:
        raise ExportError(f"The budget is {budget:,} bytes of experts, and types {asked!r} cannot meet it: {refused}"
                          ) from None  # fmt: skip
    return _fitted(request, choices, found, loss_of(allocation, costs), every)


def _asked_types(asked: str, imatrix: bool) -> tuple[GgmlType, ...]:
    if asked == CODES:
        return ()
    names = QUANTIZED if asked == ALL else [name.strip() for name in asked.split(",")]
    kinds = tuple(type_named(name) for name in names)
    if plain := [kind.name for kind in kinds if kind.name in PLAIN]:
        raise ExportError(f"{plain[0]} is no quantized type; name some of: {', '.join(QUANTIZED)}.")
    if asked != ALL and not imatrix and (needing := [kind.name for kind in kinds if kind.needs_imatrix]):
        raise ExportError(f"{needing[0]} is rounded with an importance matrix alone; give one (imatrix).")
    return tuple(kind for kind in kinds if imatrix or not kind.needs_imatrix)


def _budget(request: Request) -> int:
    """Bytes of experts: the allocation's own budget, or what its bits take in our packing."""
    settings = request.allocation.settings
    if given := settings.get("budget_bytes"):
        return int(given) - int(settings.get("fixed_bytes", 0))
    return int(sum(sizes.sum() for sizes in request.packed_bytes().values()))


def _choices(
    request: Request, weights: Weights, costs: CostTable, rounded: tuple[GgmlType, ...]
) -> dict[tuple[str, int], list[Choice]]:
    """(bank, side) → its types, rising in bytes; of two that take the same the less damaging."""
    held, found = request.statistics.settings, {}
    grid = int(held.get("group_size", request.group_size)), bool(held.get("symmetric", request.symmetric))
    same = request.method == DATA_FREE and grid == (request.group_size, request.symmetric)
    widths = [width for width in costs.bits if width not in (DROPPED, UNTOUCHED)]
    rows = importance_of(request)
    for bank, shape in weights.shapes.items():
        for side, parts in enumerate(PARTS):
            stacks = list(_looked_at(weights, bank, parts, rows))
            table = np.asarray(costs[bank])[:, side].sum(axis=0)
            damage = {width: float(table[costs.bits.index(width)]) for width in widths}
            errors = {width: _own_error(stacks, width, *grid, DATA_FREE) for width in widths}
            options = _options(request, shape.intermediate if side else shape.hidden, rounded)
            made = []
            for kind, width, codes in options:
                measured = codes and same and width in damage
                error = 0.0 if measured else _error(stacks, request, kind, width, codes)
                value = damage[width] if measured else _read_off(error, errors, damage)
                made.append(Choice(kind, width, _bytes(shape, kind, side), value, measured))
            if not made:
                raise ExportError(f"No type that was asked for fits {bank}, {'/'.join(parts)}: see its rows' length.")
            best = {}
            for choice in sorted(made, key=lambda choice: (choice.bytes, choice.damage)):
                best.setdefault(choice.bytes, choice)
            found[bank, side] = list(best.values())
    return found


def _options(request: Request, columns: int, rounded: tuple[GgmlType, ...]) -> Iterator[tuple[GgmlType, int, bool]]:
    """(type, width, whether it holds our codes): the widest codes of every type that fits, and types that round."""
    group, fractions = group_length(columns, request.group_size), request.quantizer.kind.real_zeros
    held: dict[str, int] = {}
    for width in WIDTHS:
        if (kind := container(width, request.symmetric and not fractions, columns, group, fractions)) is not None:
            held[kind.name] = width
    wanted = {kind.name for kind in rounded}
    for name, width in held.items():
        if not wanted or name in wanted:
            yield TYPES[name], width, True
    for kind in rounded:
        if kind.levels is None and columns % kind.block == 0:
            yield kind, kind.nominal, False


def _looked_at(
    weights: Weights, bank: str, parts: tuple[str, ...], rows: Mapping[str, np.ndarray]
) -> Iterator[tuple[Tensor, np.ndarray]]:
    """Matrices `[n, out, in]` of some experts, and the importance `[n, in]` of their channels (else ones)."""
    import torch

    stored, shape = weights.banks[bank], weights.shapes[bank]
    chosen = np.unique(np.linspace(0, shape.experts - 1, LOOKED_AT).astype(int)).tolist()
    for projection in parts:
        if projection in stored.projections:
            read = torch.cat([stored.read(weights.files, projection, e, e + 1) for e in chosen]).float()
            row = rows.get(expert_tensor(shape.layer, projection))
            read = read[:, np.unique(np.linspace(0, read.shape[1] - 1, ROWS).astype(int))]
            yield read, np.ones((len(chosen), read.shape[2]), np.float32) if row is None else row[chosen]


def _own_error(stacks, width: int, group: int, symmetric: bool, method: str) -> float:
    from mode_core.quantization.methods import quantize_data_free
    from mode_core.quantization.packing import pack_matrices

    made = [pack_matrices(quantize_data_free(s, width, group, symmetric, method)) for s, _ in stacks]
    return _relative(stacks, [np.stack([matrix.dequantize().numpy() for matrix in part]) for part in made])


def _error(stacks, request: Request, kind: GgmlType, width: int, codes: bool) -> float:
    if codes:
        method = DATA_FREE if request.quantizer.kind.needs_samples else request.method
        return _own_error(stacks, width, request.group_size, request.symmetric, method)
    return _relative(stacks, [_rounded(stack.numpy(), kind, row) for stack, row in stacks])


def _rounded(stack: np.ndarray, kind: GgmlType, rows: np.ndarray) -> np.ndarray:
    from gguf import GGMLQuantizationType, quants

    kept = GGMLQuantizationType(kind.id)
    return np.stack([
        quants.dequantize(ggml_quantize(matrix, kind, None if (row == 1).all() else row), kept)
        for matrix, row in zip(stack, rows, strict=True)
    ])  # fmt: skip


def _relative(stacks, made: list[np.ndarray]) -> float:
    """Σ h·(W − Ŵ)² / Σ h·W² over all matrices."""
    error = whole = 0.0
    for (stack, row), values in zip(stacks, made, strict=True):
        original, weight = stack.numpy().astype(np.float64), row[:, None, :].astype(np.float64)
        error += float((weight * (original - values) ** 2).sum())
        whole += float((weight * original**2).sum())
    return error / whole if whole else 0.0


def _read_off(error: float, errors: Mapping[int, float], damage: Mapping[int, float]) -> float:
    """Damage at a rounding error, between the measured widths in logarithms, beyond them in proportion."""
    places = sorted((errors[width], damage[width]) for width in errors if errors[width] > 0 and damage[width] > 0)
    if not places or error <= 0:
        return 0.0
    x, y = np.log(np.array(places)).T
    at = float(np.log(error))
    return float(np.exp(np.interp(at, x, y) + min(at - x[0], 0.0) + max(at - x[-1], 0.0)))


def _bytes(shape: BankShape, kind: GgmlType, side: int) -> int:
    """Bytes of one expert's gate and up (side 0) or down (side 1) in that type."""
    if side:
        return shape.hidden * kind.row_bytes(shape.intermediate)
    return (2 if shape.has_gate else 1) * shape.intermediate * kind.row_bytes(shape.hidden)


def _solver(choices: Mapping[tuple[str, int], list[Choice]], shapes: Mapping[str, BankShape]) -> Solver:
    """The allocator over numbers of choices (from 1); shorter lists are filled up with their last at a byte more each,
    which is never worth it."""
    count = max(map(len, choices.values()))
    costs, sizes = {}, {}
    for bank, shape in shapes.items():
        damage, size = np.empty((2, count)), np.empty((count, 2), np.int64)
        for side in range(2):
            own = choices[bank, side]
            more = count - len(own)
            damage[side] = [choice.damage for choice in own] + [own[-1].damage] * more
            size[:, side] = [choice.bytes for choice in own] + [own[-1].bytes + 1 + n for n in range(more)]
        costs[bank] = np.tile(damage / shape.experts, (shape.experts, 1, 1))
        sizes[bank] = size
    return Solver(costs, range(1, count + 1), "model", "projection", sizes=sizes)


def _fitted(
    request: Request,
    choices: Mapping[tuple[str, int], list[Choice]],
    found: Allocation,
    asked: float,
    costs: CostTable,
) -> Fitted:
    allocation, names, bits, used, size, count = request.allocation, {}, {}, {}, 0, 0
    shapes = request.shapes()
    for bank, numbers in found.bits.items():
        shape, widths = shapes[bank], np.empty_like(numbers)
        for side, parts in enumerate(PARTS):
            own = choices[bank, side]
            chosen = own[min(int(numbers[0, side]), len(own)) - 1]
            widths[:, side], used[chosen.kind.name] = chosen.width, chosen.measured
            size += chosen.bytes * shape.experts
            for projection in parts if shape.has_gate else (parts[-1],):
                names[expert_tensor(shape.layer, projection)] = chosen.kind.name
        bits[bank] = widths
        count += shape.experts * shape.hidden * shape.intermediate * (3 if shape.has_gate else 2)
    real = 8 * size / count
    made = replace(
        found, bits=bits, widths=tuple(sorted({int(w) for each in bits.values() for w in np.unique(each)})),
        average_bits=real, bytes=size, method=allocation.method, settings={**allocation.settings, CHOSEN: names},
    )  # fmt: skip
    budget = _budget(request)
    price = {
        "unit_asked": allocation.unit, "unit_written": "projection", "predicted_loss_as_asked": asked,
        "predicted_loss_as_written": found.objective, "added_loss": found.objective - asked,
        "times": found.objective / asked if asked > 0 else None, "average_bits_as_asked": allocation.average_bits,
        "average_bits_as_written": real, "bytes_as_asked": budget, "bytes_as_written": size,
    }  # fmt: skip
    notes = [f"Experts take {size:,} of {budget:,} bytes, {real:.3f} bits a weight with all scales."]
    if len(used) == 1:
        notes.append(f"This is uniform: every expert tensor gets {next(iter(used))}.")
    if measured := sorted(name for name, known in used.items() if known):
        notes.append(f"The damage of {', '.join(measured)} was measured on these very grids.")
    if estimated := sorted(name for name, known in used.items() if not known):
        notes.append(
            f"The damage of {', '.join(estimated)} is an estimate: read off the measured widths at the rounding error "
            f"of {ROWS} rows of {LOOKED_AT} experts of every bank."
        )
    if not costs.comparable_across_banks:
        notes.append(f"Costs of {allocation.method!r} were not made to be compared across layers, yet share a budget.")
    return Fitted(made, price, tuple(notes))


def _as_planned(request: Request, target: Target, weights: Weights) -> Fitted:
    """The allocation's own widths, each in the smallest type that holds its codes."""
    sizes = request.sizes(request.allocation.widths)
    shared = request.options.get("budget_per", MODEL)
    fitted = fit(request.allocation, target, request.costs, request.statistics, sizes, shared)
    names, bits, fractions = {}, fitted.allocation.by_side(), request.quantizer.kind.real_zeros
    for bank, widths in bits.items():
        shape = weights.shapes[bank]
        for side, parts in enumerate(PARTS):
            width, columns = int(widths[0, side]), shape.intermediate if side else shape.hidden
            grid = columns, group_length(columns, request.group_size)
            kind = container(width, request.symmetric and not fractions, *grid, fractions)
            if width == UNTOUCHED:
                kept = weights.files.dtype(weights.banks[bank].names["up"].format(0))
                kind = TYPES[FILE_TYPES[str(kept)]]
            if kind is None:
                raise ExportError(
                    f"No ggml type holds {width}-bit codes of rows of {columns} weights in groups of {grid[1]} "
                    f"({bank}): blocks are 32 weights or more. Choose a group size of 32, 64 or 128, or other widths."
                )
            for projection in parts if shape.has_gate else (parts[-1],):
                names[expert_tensor(shape.layer, projection)] = kind.name
    settings = {**fitted.allocation.settings, CHOSEN: names}
    return replace(fitted, allocation=replace(fitted.allocation, bits=bits, settings=settings))
