"""What stands beside the budget: pinned experts, what coarser units cost, and what a card has room for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import streamlit as st

from dashboard.state import model_sources, solving
from dashboard.state.address import choices
from dashboard.state.current_run import run
from dashboard.state.own_code import named_switch
from dashboard.state.visitor import may_run
from mode_core.allocation import Price
from mode_core.allocation import prices as solve_all
from mode_core.memory import Fit, around_experts, fit, kv_cache_bytes
from mode_core.request import Quantizer


def prices() -> list[Price]:
    """The present budget at every unit and scope, each solved exactly."""
    asked = solving.request()
    return solve_all(lambda unit, scope: solving.solve(replace(asked, unit=unit, scope=scope)))


def strange_pins() -> list[tuple[int, int, int]]:
    """Pins in the address that this run or these widths cannot have; they are left out."""
    return sorted(set(choices().request.pins) - set(solving.request().pins))


def card_fit() -> Fit | None:
    """How the chosen card's memory is divided with the present allocation; None where no card is chosen.

    Raises:
        ModelError, ValueError, OSError: the model's configuration is not here, or tells too little.
    """
    now = choices()
    if now.gpu is None:
        return None
    rest, cache = surroundings()
    return fit(now.gpu, rest, cache, solving.allocation().bytes)


def surroundings() -> tuple[int, int]:
    """Bytes of the model without its routed experts at the chosen widths, and of the cache of the chosen context."""
    now, source = choices(), run().model_source
    if (found := model_sources.folder_of(source)) is None:
        raise ValueError(model_sources.not_here(source, "what surrounds its experts is not known"))
    trusted, folder = may_run(model_sources.allowed(source)), str(found)
    rest = _rest(folder, trusted, solving.quantizer())
    return rest, kv_cache_bytes(_config(folder, trusted), now.context)


def around() -> int | None:
    """Bytes of what surrounds the routed experts: as the checkpoint stores it, or, where a width is chosen for a part
    of it, at that width; None where the model is not here.

    Raises:
        ModelError, ValueError, OSError: as `card_fit`.
    """
    source, now = run().model_source, solving.quantizer()
    if now.attention_bits or now.shared_bits:
        return surroundings()[0]
    folder = model_sources.folder_of(source)
    return folder and _stored(model_sources.allowed(source), folder, (folder / "config.json").stat().st_mtime_ns)


@st.cache_resource(max_entries=8, show_spinner=False)
def _stored(source: str, folder: Path, stamp: int) -> int | None:
    return around_experts(folder)


@st.cache_resource(max_entries=8, show_spinner="Reading the model's configuration …")
def _config(source: str, trusted: bool) -> Any:
    from mode_core.models.outline import configuration

    return configuration(source, trusted)


@st.cache_resource(max_entries=64, show_spinner="Weighing the model around its experts …")
def _rest(source: str, trusted: bool, quantizer: Quantizer) -> int:
    from mode_core.quantization import rest_bytes

    around = (quantizer.attention_bits, quantizer.shared_bits)
    with named_switch(source):
        return rest_bytes(source, *around, trust_remote_code=trusted, **quantizer.grid)
