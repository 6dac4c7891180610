"""Tokens: which vision tokens count as key and how far the answer rests on that; which experts a token used."""

from __future__ import annotations

import streamlit as st

from dashboard import charts
from dashboard.components import changes, readout
from dashboard.parts.controls import key_ratio_slider
from dashboard.parts.tokens import choices, overlaps, routes, stability, token_sounds
from dashboard.parts.tokens.token_pictures import large_picture, pictures
from dashboard.state import address, current_run, kept_samples
from mode_core.modalities import AUDIO_TOKENS, VISION_TOKENS

LOOKS = {"key": "Which tokens are key?", "routes": "Which experts did this token use?"}


def page() -> None:
    """Everything below the title follows the controls without a rerun of the whole page."""
    statistics = current_run.statistics()  # says what to do where there is no run yet
    st.title("Tokens")
    looked = st.segmented_control(
        "Look at", list(LOOKS), format_func=LOOKS.get, required=True, label_visibility="collapsed",
        **address.bind_place("look", list(LOOKS), "key"),
    )  # fmt: skip
    if looked == "routes":
        routes.part(charts.Axes.of(statistics))
        return
    first = next(iter(statistics))
    if heard := first.tokens_by_fold(AUDIO_TOKENS).sum():
        st.caption(
            f"This run also heard {heard:,.0f} audio tokens. They are ranked by the same signals and key ratio, "
            "among themselves; Experts shows what key audio tokens choose."
        )
    seen = first.tokens_by_fold(VISION_TOKENS).any() or (heard and kept_samples.all_scores())
    if not statistics.signals or not seen:
        st.markdown("**No vision tokens were routed in this run.**")
        st.info(
            "There is no picture to lay a ranking over"
            + ("" if heard else ", and the key ratio changes nothing")
            + ". "
            "Calibrate with samples that have pictures, or open another run.",
            icon=":material/info:",
        )
        if st.button("Go to Calibrate", type="primary", key="next_step"):
            address.go("calibrate")
        return
    explore()


@st.fragment
def explore() -> None:
    """Controls, the picture, what else could have been chosen, and how much rests on the choice."""
    statistics, scores = current_run.statistics(), kept_samples.all_scores()
    sentence, slot = st.container(), st.container()
    axes = charts.Axes.of(statistics)
    bank = choices.row(axes, scores)
    if scores:
        sample = scores[address.chosen("sample", list(scores), next(iter(scores)))]
        with sentence:
            readout(choices.headline(sample, axes, bank), "tokens")
        if sample.scores:
            pictures(sample, axes, bank)
        if sample.audio:
            token_sounds.part(sample, axes, bank)
        if pictured := list(kept_samples.token_scores().values()):
            overlaps.part(pictured, axes)
    else:
        st.info(
            "This run keeps no pictures (it was imported, merged, or made without them), so there is nothing to lay "
            "the ranking over. What the ranking leads to is below.",
            icon=":material/image_not_supported:",
        )
    stability.part(axes)

    @current_run.once
    def follow() -> str:
        """What every step of the dragged key ratio changes."""
        if not scores:
            return changes()
        figures = large_picture(sample, axes, bank) if sample.scores else {}
        figures |= token_sounds.strips(sample, axes, bank) if sample.audio else {}
        return changes(figures, {"tokens": choices.headline(sample, axes, bank)})

    with slot:
        key_ratio_slider(follow)


page()
