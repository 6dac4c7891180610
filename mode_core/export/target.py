"""What a target is: one form of output, whom it is for, and what is known about it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mode_core.allocation import Allocation
from mode_core.export.request import Request
from mode_core.statistics import BankShape

GROUPS = {  # what a person wants to download -> in words
    "checkpoint": "A checkpoint that software loads",
    "recipe": "A recipe for another quantizer",
    "data": "The bits as data",
}
PACKAGES_AS_INSTALLED = {"mlx": "'mlx[cpu]'"}  # where the name to install is not the name to import


@dataclass(frozen=True)
class Fitted:
    """An allocation that a target can hold, and how it came from the one that was asked for.

    `price` is None where the bits are those asked for; else the predicted losses of both (in the unit of the costs,
    an estimate) and what the coarser unit adds. `notes` are sentences for the manifest. `rival` are uniform bits of the
    same size, where a target with a coarse unit is set against them.
    """

    allocation: Allocation
    price: dict[str, object] | None = None
    notes: tuple[str, ...] = ()
    rival: Allocation | None = None

    @property
    def width(self) -> int | None:
        """The width of every expert where there is one alone: then this is uniform quantization."""
        used = {int(width) for bits in self.allocation.bits.values() for width in np.unique(bits)}
        return used.pop() if len(used) == 1 else None


@dataclass(frozen=True)
class Target:
    """One form of output: what it is called, how fine its bits may be, who runs it, and how that was proven.

    `group` is a name of `GROUPS`, `for_whom` one sentence on who should take this form, `recommended` why it is the one
    to start with ("" for all others).
    `finest_unit` is a name of `mode_core.allocation.UNITS`; an allocation that is finer is solved again at it.
    `takes_samples`: it writes the run's own samples too, where they are given.
    `offers`: what it alone understands (see `export`, options) and the usual values, the default ("": none) first.
    `needs` is the optional package that writing takes ("" for none), `warning` what a person must know before use.
    `fit` solves the allocation in a way of the target's own, where widths alone do not tell what it stores.
    `write` gives sentences about what it wrote. `reroutes`: tokens go to other experts than in the model that was
    measured. `load` are lines of Python that open a checkpoint within its folder
    (see `card`), `tried` the versions of the packages that were tried with them.
    `group_for`: shapes of the banks and a group size → the one that it can hold in its place (None: it holds any).
    `engine`: what a person calls the engine for whose sake they take it ("" where another form is the one for it),
    `run` the command that serves `{folder}` with `{context}` tokens there ("" where lines of Python are the way).
    """

    name: str
    title: str
    group: str
    for_whom: str
    finest_unit: str
    widths: tuple[int, ...]
    engines: str
    proof: str
    write: Callable[[Request, Path], tuple[str, ...] | None]
    needs_model: bool = False
    takes_samples: bool = False
    offers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    needs: str = ""
    recommended: str = ""
    warning: str = ""
    fit: Callable[[Request, Target], Fitted] | None = None
    group_for: Callable[[Mapping[str, BankShape], int], int] | None = None
    reroutes: bool = False
    load: str = ""
    tried: Mapping[str, str] = field(default_factory=dict)
    engine: str = ""
    run: str = ""

    @property
    def library(self) -> str:
        """What the hub calls the library that loads it; "" for one without a name there."""
        return next((name for name in ("transformers", "mlx") if f"from {name}" in self.load), "")


def missing_package(target: Target) -> str | None:
    """What to install before this target can be written, as a sentence; None where nothing is missing."""
    if not target.needs or importlib.util.find_spec(target.needs) is not None:
        return None
    return f"The target {target.name!r} is written with the package {target.needs}; install it: pip install " + (
        PACKAGES_AS_INSTALLED.get(target.needs, target.needs) + "."
    )
