"""Where the model is to run: the engine and the card come first, since they decide what can be asked for at all."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboard.charts.measures import original_bytes
from dashboard.charts.memory import memory_bar, memory_parts
from dashboard.components import chart
from dashboard.parts.export import commands
from dashboard.parts.quantize.quantizing import around_experts
from dashboard.state import address, current_run, estimating, planning, solving
from dashboard.words import names
from dashboard.words.plain import plain
from dashboard.words.sizes import number, size_text
from mode_core.allocation import Allocation, AllocationError
from mode_core.errors import ImportanceError
from mode_core.export import TARGETS
from mode_core.export.refit import UNIT_WORDS
from mode_core.export.target import Target
from mode_core.export.targets import ENGINES
from mode_core.memory import GPUS, Fit
from mode_core.models.errors import ModelError

CONTEXTS = (2048, 8192, 32_768, 131_072)
CONTEXT_HELP = "Text and vision tokens of one conversation that the KV cache has room for, at 2 bytes a number."
UNDECIDED = "Not decided"
_UNKNOWN = (ValueError, OSError, ModelError, ImportanceError)  # what a model that is not here, or tells little, raises


def engine() -> Target | None:
    """The form of the engine that the address names; the same that Export opens with."""
    name = address.chosen("form", list(TARGETS), None)
    return TARGETS[name] if name and TARGETS[name].engine else None


def row() -> None:
    """Engine, card and context; each sets what follows from it."""
    chosen = engine()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.session_state["deploy:engine"] = chosen.engine if chosen else UNDECIDED
        st.selectbox("Engine", [UNDECIDED, *ENGINES], key="deploy:engine", on_change=_take_engine, width=230,
                     help="Sets what shares one width, the widths, and the scope, as it reads them.")  # fmt: skip
        _bound("Graphics card", (0, *GPUS), "gpu", card_name, 290,
               "Sets the budget to what is left beside the rest of the model.",
               shown=lambda size: size or 0, meant=lambda size: size or None)  # fmt: skip
        if address.choices().gpu:
            _bound("Context", sorted({*CONTEXTS, address.choices().context}), "context",
                   lambda tokens: f"{tokens:,} tokens", 150, CONTEXT_HELP)  # fmt: skip


def _bound(label: str, options, field: str, told, width: int, help: str, **how) -> None:
    bound = address.bind(field, **how)

    def change() -> None:
        bound["on_change"]()
        take_card()

    st.selectbox(label, options, format_func=told, help=help, width=width, key=bound["key"], on_change=change)


def card_name(size: int) -> str:
    """'24 GB: RTX 4090, RTX 3090, L4, A10', as they are sold."""
    return f"{size} GB: {GPUS[size]}" if size in GPUS else f"{size} GB" if size else UNDECIDED


def _take_engine() -> None:
    target = ENGINES.get(st.session_state["deploy:engine"])
    address.put(form=target.name if target else None)
    if target is not None:
        address.choose(**settings_for(target))
    take_card()


def settings_for(target: Target) -> dict[str, object]:
    """The finest unit that an engine reads, the widths it has of those chosen, and a scope in which that unit leaves
    something to choose: a layer that has both a budget and a width of its own can only be uniform."""
    measured, asked = current_run.statistics().bits, solving.widths()
    held = [width for width in asked if width in target.widths] or [w for w in measured if w in target.widths]
    by_layer = target.finest_unit in ("layer", "projection")
    unit = target.finest_unit if by_layer else "expert"
    how = estimating.across_layers() if by_layer else estimating.recommended().settings
    return {"unit": unit, **how} | ({"widths": tuple(sorted(held))} if held else {}) | other_group(target)


def other_group(target: Target) -> dict[str, int]:
    """The group size to set where the form cannot hold the present one with these matrices; empty where it can."""
    now = solving.quantizer().group_size
    shapes = {bank.name: bank.shape for bank in current_run.statistics()}
    size = target.group_for(shapes, now) if target.group_for else now
    return {"group_size": size} if size != now else {}


def _set_up(settings: dict[str, object]) -> bool:
    """Are unit, scope and group size those of the engine already?"""
    now = address.choices()
    return all(now.get(name) == settings[name] for name in ("unit", "scope", "group_size") if name in settings)


def take_card() -> None:
    """The budget that the chosen card leaves to the experts; as it is where none is chosen, or none is left."""
    if address.choices().gpu is None:
        return
    try:
        budget = min(planning.card_fit().for_experts, solving.size_range()[1])
    except (*_UNKNOWN, AllocationError):
        return  # `fit_part` says why
    if budget >= solving.size_range()[0]:
        address.choose(budget_unit="MB", megabytes=budget / 1e6)


def verdict(allocation: Allocation, with_commands: bool = True) -> None:
    """What the engine and the card make of this: does it fit, and what is gained over the engine's plain format."""
    target, told = engine(), []
    if target is not None:
        told.append(f"**{target.engine}** takes one width for {UNIT_WORDS[target.finest_unit]}. {gain(allocation)}")
    if address.choices().gpu is not None:
        told.append(fit_words())
    if told:
        st.caption(" ".join(told))
    if target is not None and not _set_up(settings_for(target)):
        st.button(f"Solve for {target.engine}", key="deploy:solve", on_click=_take_engine,
                  help="Sets what shares one width, the scope and the widths as this engine reads them.")  # fmt: skip
    if target is not None and with_commands:
        with st.popover("Write it and run it", icon=":material/terminal:", type="tertiary"):
            commands.part(target, allocation)


def gain(allocation: Allocation) -> str:
    """Estimates beside the widest plain format, one width for all, that is no larger."""
    rival = estimating.plain_format(allocation)
    if rival is None:
        return "No plain format is as small: its smallest width for all is larger than this."
    name = f"{estimating.uniform_name(rival)}, the widest plain format that is no larger ({size_text(rival.bytes)})"
    if estimating.nearly_uniform(allocation):
        return f"These bits are {name}: nothing is gained."
    try:
        mine, its = (estimating.predict(each) for each in (allocation, rival))
    except ImportanceError as refused:
        return plain(refused)
    kind = next((kind for kind in names.ON if kind in mine.kl), None)
    ours, theirs = (mine.relative, its.relative) if kind is None else (mine.kl[kind], its.kl[kind])
    what = "Relative damage" if kind is None else f"KL {names.ON[kind]}"
    return f"{what} {number(ours.value)} against {number(theirs.value)} with {name}; both are estimates."


def fit_words() -> str:
    """Does it fit the card? Or why that is not known, and what to do."""
    try:
        fit, low = planning.card_fit(), solving.size_range()[0]
    except _UNKNOWN as unknown:
        return f":material/help: {plain(unknown)}"
    if fit.for_experts < low:
        return (
            f":material/error: It does not fit: even at {min(solving.widths())} bits the experts take "
            f"{size_text(low)}, and "
            f"beside the rest {size_text(max(0, fit.for_experts))} are left. Add a smaller width, shorten the "
            "context, or choose a larger card."
        )
    sold = f"A card sold as {address.choices().gpu} GB has {size_text(fit.card)}"
    left = f"{size_text(fit.free)} stay free" if fit.free >= 0 else f"this is too large by {size_text(-fit.free)}"
    whole = original_bytes(current_run.statistics())
    even = f" It would fit with its experts unquantized too ({size_text(whole)})." * (fit.for_experts >= whole)
    return f"{sold}; {left} (estimate).{even}"


def memory_panel() -> None:
    """How the card's memory divides, and the widths of what surrounds the experts."""
    around_experts(st.columns(2, vertical_alignment="bottom"))
    if address.choices().gpu is None:
        st.caption("Choose a card above to see how its memory divides.")
        return
    try:
        fit: Fit = planning.card_fit()
    except _UNKNOWN as unknown:
        st.error(plain(unknown), icon=":material/error:")
        return
    chart(memory_bar(fit), "memory", table=lambda: pd.DataFrame(memory_parts(fit).items(), columns=["part", "bytes"]))
    low, high = solving.size_range()
    if fit.for_experts >= low:
        words = "the widest width of all fits" if fit.for_experts >= high else "all of what is left"
        st.button(f"Take the budget from this card: {size_text(min(fit.for_experts, high))} ({words})",
                  key="take-card", on_click=take_card)  # fmt: skip
    else:
        st.error(fit_words().partition(": ")[2], icon=":material/error:")
