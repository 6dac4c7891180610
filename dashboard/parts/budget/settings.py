"""By which estimate, at which widths, shared out how: one row, and below it how far the samples are trusted."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from dashboard.components import live_slider
from dashboard.parts.budget.budget_words import insurance, missing_methods
from dashboard.state import address, current_run, solving
from dashboard.words import names
from dashboard.words.glossary import explain
from mode_core.allocation import UNITS
from mode_core.importance import METHODS
from mode_core.importance.methods import GROUPS
from mode_core.modalities import AUDIO_TOKENS

UNIT_HELP = (
    "What shares one bit-width. **Expert** (the paper): AutoRound-format and GPTQModel checkpoints in transformers. "
    "**Layer's half** (all gates and ups, or all downs, of a layer): GGUF for llama.cpp, MLX. **Layer**: "
    "compressed-tensors for vLLM, and most serving engines. **Expert's half**: no engine reads it yet; it shows what "
    "would be gained. Damage by halves is divided by the weights' own rounding errors, an estimate."
)
SCOPE_HELP = "The paper gives each layer the same average; one budget for the model moves bits between layers."


def part(follow: Callable[[], str]) -> st.delta_generator.DeltaGenerator:
    """Folded away, so that the map stands beside the slider; returns the place for why these settings are recommended,
    which is told above where they are not set."""
    with st.expander("Settings: estimate, scope, unit, widths, trust in the samples", key="budget-settings"):
        advice = st.container()
        row(follow)
    return advice


def row(follow: Callable[[], str]) -> None:
    """Method, scope, unit, widths and vision weight; below them the trust in the samples."""
    method, scope, unit, widths, weight = st.columns([1.6, 1.3, 0.9, 1.2, 1.3], vertical_alignment="top")
    now, statistics = address.choices().request, current_run.statistics()
    known = [name for name in METHODS if METHODS[name].available(statistics)]
    known += [now.method] * (now.method not in known)
    chosen = method.selectbox(
        "Importance by", known, format_func=names.method, help=missing_methods(), **address.bind("method")
    )
    unit.selectbox(
        "One width for", UNITS, format_func=names.UNITS.get, help=UNIT_HELP, **address.bind("unit")
    )  # fmt: skip
    scope.segmented_control(
        "Budget for", list(names.SCOPES), format_func=names.SCOPES.get, required=True, help=SCOPE_HELP,
        **address.bind("scope"),
    )  # fmt: skip
    widths.pills(
        "Bit-widths", list(statistics.bits), selection_mode="multi",
        **address.bind("widths", shown=lambda _: list(solving.widths()),
                       meant=lambda bits: tuple(sorted(bits)) or solving.widths()),
    )  # fmt: skip
    with weight:
        live_slider(
            "Weight of vision (α)", low=0.0, high=4.0, step=0.1, decimals=1, value=now.vision_weight,
            key="vision-weight", help=explain("vision weight"), follow=follow,
            on_change=lambda alpha: address.choose(vision_weight=round(alpha, 1)),
        )  # fmt: skip
        if AUDIO_TOKENS in statistics.modalities:
            live_slider(
                "Weight of audio (β)", low=0.0, high=4.0, step=0.1, decimals=1, value=now.audio_weight,
                key="audio-weight", help=explain("audio weight"), follow=follow,
                on_change=lambda beta: address.choose(audio_weight=round(beta, 1)),
            )  # fmt: skip
    about = f"{METHODS[chosen].description} ({GROUPS[METHODS[chosen].group].capitalize()}.)"
    st.caption(f"{about} Key ratio {100 * now.key_ratio:.0f} %, set under Experts.")
    trust(follow)


def trust(follow: Callable[[], str]) -> None:
    """Insurance as a question, and what was measured of either answer."""
    now = address.choices().request
    left, right = st.columns([1, 1.4], gap="medium", vertical_alignment="center")
    with left:
        live_slider(
            "How far may I trust that these samples stand for your use?", low=0, high=100, step=5, unit=" %",
            value=100 * (1 - now.shrinkage), key="shrinkage", help=explain("shrinkage"), follow=follow,
            on_change=lambda percent: address.choose(shrinkage=round(1 - percent / 100, 2)),
        )  # fmt: skip
    right.caption(insurance(now.method, solving.bits_asked()))
