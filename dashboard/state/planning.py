"""What stands beside the budget: pinned experts, what coarser units cost, and what a card has room for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from dashboard.parts.calibrate.own_code import named_switch
from dashboard.state.address import choices
from dashboard.state.current_run import run, statistics
from dashboard.state.solving import allocation, bits_asked, grid, megabytes, solver_of, widths
from mode_core.allocation import SCOPES, AllocationError
from mode_core.memory import Fit, fit, kv_cache_bytes

UNITS = ("expert_projection", "expert", "projection", "layer")  # from the finest to the coarsest


@dataclass(frozen=True)
class Price:
    """One unit and scope at the present budget: predicted damage, and why not, where it cannot be solved."""

    unit: str
    scope: str
    objective: float | None
    average_bits: float | None
    refused: str = ""


def prices() -> list[Price]:
    """The present budget at every unit and scope, each solved exactly."""
    now, found = choices(), []
    for unit in UNITS:
        for scope in SCOPES:
            try:
                solver = solver_of(unit=unit, scope=scope)
                if now.budget_unit == "MB":
                    solved = solver.solve(None, budget_bytes=round(1e6 * megabytes()))
                else:
                    solved = solver.solve(bits_asked())
            except AllocationError as refused:
                found.append(Price(unit, scope, None, None, str(refused)))
            else:
                found.append(Price(unit, scope, solved.objective, solved.average_bits))
    return found


def strange_pins() -> list[tuple[int, int, int]]:
    """Pins in the address that this run or these widths cannot have; they are left out."""
    banks = list(statistics())
    return [
        pin
        for pin in choices().pins
        if pin[0] >= len(banks) or pin[1] >= banks[pin[0]].shape.experts or pin[2] not in widths()
    ]


def card_fit() -> Fit | None:
    """How the chosen card's memory is divided with the present allocation; None where no card is chosen.

    Raises:
        ModelError, ValueError, OSError: the model's configuration is not here, or tells too little.
    """
    now = choices()
    if now.gpu is None:
        return None
    rest, cache = surroundings()
    return fit(now.gpu, rest, cache, allocation().bytes)


def surroundings() -> tuple[int, int]:
    """Bytes of the model without its routed experts at the chosen widths, and of the cache of the chosen context."""
    from dashboard.parts.calibrate import trust

    now, source = choices(), run().model_source
    if not source or not (Path(source) / "config.json").is_file():
        raise ValueError(f"The model of this run is not on this machine ({source}), so what surrounds its experts is "
                         "not known.")  # fmt: skip
    trusted = trust.may_run(source)
    rest = _rest(source, trusted, now.attention_bits, now.shared_bits, now.quantizer, tuple(sorted(grid().items())))
    return rest, kv_cache_bytes(_config(source, trusted), now.context)


@st.cache_resource(max_entries=8, show_spinner="Reading the model's configuration …")
def _config(source: str, trusted: bool) -> Any:
    from mode_core.models.outline import configuration

    return configuration(source, trusted)


@st.cache_resource(max_entries=64, show_spinner="Weighing the model around its experts …")
def _rest(source: str, trusted: bool, attention: int | None, shared: int | None, quantizer: str, grid: tuple) -> int:
    from mode_core.quantization import rest_bytes

    with named_switch(source):
        return rest_bytes(source, attention, shared, method=quantizer, trust_remote_code=trusted, **dict(grid))
