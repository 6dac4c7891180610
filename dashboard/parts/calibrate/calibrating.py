"""Parts of the Calibrate page: what is measured, and what that costs, told before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psutil
import streamlit as st

from dashboard.jobs.answer_kl import AnswerKL
from dashboard.jobs.forecast import LONG, MemoryEstimate, estimate_memory, tokens_per_second
from dashboard.jobs.work import estimate_tokens
from dashboard.parts.calibrate import sample_picker, trust
from dashboard.state import folders, model_sources
from dashboard.words import names
from dashboard.words.plain import plain
from mode_core.calibration import SIGNALS, CalibrationSettings
from mode_core.calibration.settings import OWN_TOKENS
from mode_core.importance import METHODS
from mode_core.modalities import MODALITIES, RANKED, SIGNAL
from mode_core.models import ModelError
from mode_core.samples import SampleError

WIDTHS = (0, 1, 2, 3, 4, 5, 6, 8)
GROUPS = (32, 64, 128, -1)
MOST_PROBES = 16
HESSIAN_PASSES = 4  # of the model for each sample and probe, about (stated by `mode_core.calibration.hessian`)
UNKNOWN = (OSError, ValueError, RuntimeError, LookupError, ImportError, AttributeError, TypeError)  # a model's own code


def settings_part(source: str | None) -> tuple[CalibrationSettings, AnswerKL | None] | None:
    """What to measure, and the KL of the answer where it is asked for; the paper's values are the defaults, with
    gradients besides where the model of `source` leaves room for them."""
    with st.expander("Settings (the paper's are set)"):
        widths = st.pills(
            "Widths to measure, bits", WIDTHS, default=(1, 2, 3, 4), selection_mode="multi", key="calibrate:widths",
            persist_state="session",
            help="Paper: 2, 3 and 4 for an average of 3 bits; 1 as well for an average of 2. 0 measures what leaving "
            "an expert out costs. Each width adds time.",
        )  # fmt: skip
        group = st.selectbox(
            "Group size", GROUPS, index=GROUPS.index(128), key="calibrate:group", persist_state="session",
            format_func=lambda size: "whole row" if size == -1 else f"{size}" + (" (paper)" if size == 128 else ""),
            help="Input channels that share one scale. Matrices narrower than a group are one group.",
        )  # fmt: skip
        symmetric = st.toggle(
            "Symmetric grid (paper)", value=True, key="calibrate:symmetric", persist_state="session",
            help="Off: every group has a zero point as well, which uses all four levels at 2 bits.",
        )  # fmt: skip
        signals = st.multiselect(
            "Redundancy signals", list(SIGNALS), default=[SIGNAL], format_func=names.signal, key="calibrate:signals",
            persist_state="session",
            help="What ranks the vision tokens from key to redundant. Paper: text_attention. Others add time and size.",
        )  # fmt: skip
        sensitivity = st.toggle(
            "Measure sensitivity (paper)", value=True, key="calibrate:sensitivity", persist_state="session",
            help="Off: only frequencies are counted. Faster, but no allocation can weigh the damage.",
        )  # fmt: skip
        gradients = st.toggle(
            "Gradients, for Fisher importance", value=_room_for_gradients(source), disabled=not sensitivity,
            key="calibrate:gradients", persist_state="session",
            help="Adds a backward pass: what rounding an expert does to what the model says, which the best estimates "
            "below 4 bits need. On where the model fits memory twice; about five times "
            "the time.",
        )  # fmt: skip
        if not gradients:
            lost = ", ".join(method.title for method in METHODS.values() if method.needs == "gradients")
            st.caption(f"Without gradients these estimates cannot be asked for later: {plain(lost)}.")
        saliency = st.toggle(
            "Norms of the experts' outputs, for REAP", value=False, disabled=not sensitivity, key="calibrate:saliency",
            persist_state="session",
            help="Adds one sum: routing weight × norm of each expert's output. The method reap needs it, a rival that "
            "says which experts to leave out. Measure 0 bits with it to let it choose them.",
        )  # fmt: skip
        answers = st.toggle(
            "The model answers first", value=False, key="calibrate:own-answers", persist_state="session",
            help=f"The model answers every sample by itself, in at most {OWN_TOKENS} tokens, and these are counted and "
            "measured as text too, in the place of any answer that the samples have. Off: questions alone. Gradients "
            "look at the model's own answers either way.",
        )  # fmt: skip
        probes = st.number_input(
            "Probes of the Hessian's trace", 0, MOST_PROBES, 0, key="calibrate:probes", persist_state="session",
            help="Random vectors for each sample (Hutchinson); the method hessian_trace needs them, and one will do. "
            "0: none. Each costs about four passes of every sample, by itself and in float32, and needs memory for "
            "two backward passes: for small models only.",
        )  # fmt: skip
        kl = _kl_part()
        exemplars = st.number_input(
            "Exemplars of each expert", 0, 64, 8, key="calibrate:exemplars", persist_state="session",
            help="So many text tokens and picture patches are kept per expert, those that its router weighed most.",
        )  # fmt: skip
        batch = st.number_input(
            "Samples per forward pass", 1, 64, 4, key="calibrate:batch", persist_state="session",
            help="Larger is faster where memory allows.",
        )  # fmt: skip
        st.caption(
            "A small model is anchored at the end: up to 64 of the samples pass once for each width, all experts at "
            "it, so that predicted damage has a unit. For a larger one a check on the Compare page does the same."
        )
    if not widths or not signals:
        st.error("Choose at least one width to measure, and one redundancy signal.")
        return None
    settings = CalibrationSettings(
        bits=tuple(sorted(widths)), signals=tuple(signals), group_size=group, symmetric=symmetric,
        sensitivity=sensitivity, batch_size=batch, gradients=gradients and sensitivity, exemplars=exemplars,
        hessian_probes=probes, saliency=saliency and sensitivity, own_answers=OWN_TOKENS if answers else 0,
    )  # fmt: skip
    return settings, kl


def _room_for_gradients(source: str | None) -> bool:
    """Is there memory for the model and as much again? No where that is not known yet."""
    try:
        asked = CalibrationSettings(gradients=True)
        needed = 2 * _memory(source, trust.may_run(source), asked, False).least if source else 0
    except UNKNOWN:
        return False
    return 0 < needed <= psutil.virtual_memory().available


def _kl_part() -> AnswerKL | None:
    """The KL of the answer, off unless asked for; its cost follows from model and samples and is told below."""
    wanted = st.toggle(
        "KL of the answer (the paper's costly metric)", value=False, key="calibrate:kl", persist_state="session",
        help="How far the next token's distribution moves when one expert alone is rounded: up to two passes of every "
        "batch for each expert and width. The methods mode_logit_kl and logit_kl need it. Before it starts you are "
        "told how many passes that is, and asked.",
    )  # fmt: skip
    if not wanted:
        return None
    usual = AnswerKL()
    few, share, limit = st.columns(3)
    samples = few.number_input(
        "Samples for it", 1, 4096, usual.samples, key="calibrate:kl-samples", persist_state="session",
        help="The first so many of the samples.",
    )  # fmt: skip
    ratio = share.number_input(
        "Key tokens, %", 1, 100, round(100 * usual.key_ratio), key="calibrate:kl-ratio", persist_state="session",
        help="It is measured at this key ratio and the first redundancy signal; its methods can be asked at these "
        "alone. Paper: 20.",
    )  # fmt: skip
    minutes = limit.number_input(
        "Most minutes", 1, 10_000, round(usual.seconds / 60), key="calibrate:kl-minutes", persist_state="session",
        help="One pass is timed first. Where all of them would take longer, nothing is measured and you are told.",
    )  # fmt: skip
    return AnswerKL(samples, ratio / 100, 60.0 * minutes)


def estimate_part(
    source: str, samples: Sequence[Any], settings: CalibrationSettings | None, kl: AnswerKL | None
) -> bool:
    """What lies ahead, in tokens, time and memory; False where model and samples do not go together."""
    if model_sources.is_hub_id(source):
        return True
    trusted = trust.may_run(source)
    try:
        tokens, looked, videos = _tokens(source, trusted, sample_picker.digest(samples), samples)
    except (ModelError, SampleError) as refused:
        st.error(plain(refused), icon=":material/error:")
        return False
    how = "counted" if looked == len(samples) else f"estimated from {looked} of {len(samples)} samples"
    whole = sum(tokens.values())
    shares = [
        f"{100 * count / max(1, whole):.0f} % of them {name} tokens"
        for name, count in tokens.items()
        if MODALITIES[name].ranked and (MODALITIES[name].always or count)
    ]
    if videos:
        shares[0] += f" (about {videos:,} of video frames)"
    st.markdown(
        f"**{whole:,} tokens** ({how}), {', '.join(shares)}, in {len(samples)} sample"
        f"{'s' if len(samples) != 1 else ''}."
    )
    if settings is not None:
        if answering := settings.answering_cost(len(samples)):
            st.caption(answering)
        st.caption(_cost_ahead(source, trusted, settings, kl, whole, len(samples)))
    if not any(tokens[name] for name in RANKED):
        st.warning(
            "No sample has a picture, so nothing is learned about vision tokens. Add pictures to see the two biases."
        )
    return True


def consent_part(source: str, samples: Sequence[Any], settings: CalibrationSettings, kl: AnswerKL | None) -> bool:
    """The cost of what is far dearer than the rest; False until a person has agreed to it, where that is asked."""
    if settings.hessian_probes:
        passes = HESSIAN_PASSES * len(samples) * settings.hessian_probes
        st.caption(f"The Hessian's trace adds about {passes:,} passes of one sample each, in float32.")
    if kl is None:
        return True
    try:
        passes = _kl_passes(source, trust.may_run(source), len(samples), settings, kl)
    except UNKNOWN as unknown:
        st.error(
            "What the KL of the answer would cost is not known before the model is on this machine "
            f"({plain(unknown)}). Calibrate without it first.",
            icon=":material/error:",
        )
        return False
    st.warning(
        f"The KL of the answer adds at most **{passes:,} forward passes** of {min(kl.samples, len(samples))} samples "
        f"in batches. One pass is timed first; where all would take more than {kl.seconds / 60:g} minutes, nothing is "
        "measured.",
        icon=":material/hourglass_top:",
    )
    # the cost is part of the key: who agreed to one cost has not agreed to another
    return st.checkbox(f"Agreed: at most {passes:,} forward passes", key=f"calibrate:kl-agreed:{passes}")


def _cost_ahead(
    source: str, trusted: bool, settings: CalibrationSettings, kl: AnswerKL | None, tokens: int, samples: int
) -> str:
    """Memory from the model's shapes, and time from earlier runs of the same model on this machine, as a sentence."""
    try:
        memory = _memory(source, trusted, settings, kl is not None, max(1, tokens // max(1, samples)))
    except UNKNOWN as unknown:
        return f"Memory is not known before the model is loaded ({plain(unknown)})."
    words = (
        f"Memory, estimate: {memory.least / 1e9:.2g} to {memory.most / 1e9:.2g} GB (this software, weights, sums and "
        "rounded experts; the more with what rounding and a batch's passes hold for a while)"
    )
    speed = tokens_per_second(source, settings, folders.readable_runs())
    if speed is None:
        return f"{words}. The time is known after the first samples."
    without = "loading" if kl is None else "loading and the KL of the answer"
    seconds = tokens / speed
    return f"{words}, about {seconds:.0f} s at the pace of an earlier run (estimate; {without} not counted)."


# --- cached: with leave to run its own code a model is another one than without ---------------------------------


@st.cache_data(max_entries=32, show_spinner="Counting tokens …")
def _tokens(source: str, trusted: bool, digest: str, _samples: Sequence[Any]) -> tuple[dict[str, int], int, int]:
    return estimate_tokens(source, _samples, trusted)


@st.cache_data(max_entries=32, show_spinner="Reading the model's shapes …")
def _memory(
    source: str, trusted: bool, settings: CalibrationSettings, answer_kl: bool, tokens: int = LONG
) -> MemoryEstimate:
    return estimate_memory(source, settings, trusted, answer_kl, tokens)


@st.cache_data(max_entries=32, show_spinner="Counting forward passes …")
def _kl_passes(source: str, trusted: bool, samples: int, settings: CalibrationSettings, kl: AnswerKL) -> int:
    return kl.passes(source, samples, settings, trusted)
