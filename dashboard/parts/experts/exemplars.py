"""What one expert likes: the words and the patches that its router weighed most, from the calibration samples."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence

import streamlit as st
from PIL import Image, ImageDraw

from dashboard.state import current_run
from dashboard.words.plain import plain
from mode_core.statistics.exemplars import Exemplars, ExemplarsError, PatchExemplar, SoundExemplar, TextExemplar

CONTEXT = 2  # cells shown around a patch
SOUND_CONTEXT = 6  # tokens shown before and after an audio token
SIDE, GAP = 84, 6  # pixels of one crop, and between crops
OUTLINE = "#d55e00"
_STYLE = (
    "<style>.exemplars { font-size: 0.86rem; line-height: 1.5; } .exemplars mark { background: transparent; "
    "color: inherit; font-weight: 700; border-bottom: 2px solid #d55e00; } "
    ".exemplars .weight { opacity: 0.65; margin-left: 0.5em; } .exemplars div { white-space: nowrap; overflow: hidden; "
    "text-overflow: ellipsis; }</style>"
)


def part(bank: str, expert: int) -> None:
    """Text tokens in context on the left, picture patches as crops on the right."""
    st.markdown(f"**What expert {expert} was chosen for most strongly**, by routing weight, in the calibration samples")
    try:
        found = exemplars_of_run(current_run.run_key())
    except ExemplarsError as damaged:
        st.caption(f"The exemplars of this run cannot be read. {plain(damaged)}")
        return
    if found is None or bank not in found.tables:
        st.caption("This run was made without exemplars. Calibrate again to see words and patches of every expert.")
        return
    left, right = st.columns(2, gap="medium")
    with left:
        tokens = found.text(bank, expert)
        st.caption("Text tokens")
        st.html(_STYLE + text_lines(tokens)) if tokens else st.caption("No text token was routed here.")
    with right:
        patches = found.patches(bank, expert)
        st.caption("Vision tokens, outlined in their surroundings")
        if not patches:
            st.caption("No vision token was routed here.")
        elif (strip := _strip(current_run.run_key(), bank, expert)) is None:
            st.caption(", ".join(f"token {patch.place} of {plain(patch.sample)}" for patch in patches))
        else:
            weights = ", ".join(f"{patch.weight:.2f}" for patch in patches if patch.picture)
            st.image(strip, alt=f"Patches of pictures that expert {expert} was chosen for, largest weight first.")
            st.caption(f"Routing weights {weights}.")
    if sounds := found.sounds(bank, expert):
        if (drawn := _sounds_strip(current_run.run_key(), bank, expert)) is not None:
            st.image(drawn, alt=f"Spectrograms of sounds that expert {expert} was chosen for, largest weight first.")
        st.caption(f"Audio tokens, by their place in the sound: {'; '.join(plain(_heard(sound)) for sound in sounds)}.")


def _heard(sound: SoundExemplar) -> str:
    """Where an audio token lies, and its routing weight."""
    if sound.span is None or sound.sound is None:
        return f"token {sound.place} of {sound.sample} ({sound.weight:.2f})"
    begin, end = sound.span
    return f"{begin:.2f} to {end:.2f} s of sound {sound.sound + 1} of {sound.sample} ({sound.weight:.2f})"


def text_lines(tokens: tuple[TextExemplar, ...]) -> str:
    """One line a token, its context around it, as HTML; everything that came from a sample is escaped."""
    lines = [
        f"<div title='sample {html.escape(token.sample)}'>{_shown(token.before)}"
        f"<mark>{_shown(token.token) or '␣'}</mark>{_shown(token.after)}<span class='weight'>{token.weight:.2f}"
        f"{' template' if token.template else ''}</span></div>"
        for token in tokens
    ]
    return f"<div class='exemplars'>{''.join(lines)}</div>"


def _shown(text: str) -> str:
    return html.escape(text.replace("\n", "⏎"))


@st.cache_resource(max_entries=4, show_spinner=False)
def exemplars_of_run(key: tuple) -> Exemplars | None:
    """Those of the open run, whose key this is; None where it has none."""
    return current_run.run().exemplars()


@st.cache_resource(max_entries=256, show_spinner=False)
def _strip(key: tuple, bank: str, expert: int) -> bytes | None:
    return strip(exemplars_of_run(key).patches(bank, expert))


@st.cache_resource(max_entries=256, show_spinner=False)
def _sounds_strip(key: tuple, bank: str, expert: int) -> bytes | None:
    return side_by_side([_sound_crop(sound) for sound in exemplars_of_run(key).sounds(bank, expert)])


def strip(patches: tuple[PatchExemplar, ...]) -> bytes | None:
    """The crops side by side as one PNG, each patch outlined; None where no picture was kept."""
    return side_by_side([_crop(patch) for patch in patches])


def side_by_side(crops: Sequence[Image.Image | None]) -> bytes | None:
    """Those that are there, as one PNG; None where none is."""
    crops = [crop for crop in crops if crop is not None]
    if not crops:
        return None
    whole = Image.new("RGBA", (len(crops) * (SIDE + GAP) - GAP, SIDE), (0, 0, 0, 0))
    for place, crop in enumerate(crops):
        whole.paste(crop, (place * (SIDE + GAP), 0))
    held = io.BytesIO()
    whole.save(held, "PNG")
    return held.getvalue()


def _sound_crop(sound: SoundExemplar) -> Image.Image | None:
    """The spectrogram around an audio token, `SOUND_CONTEXT` tokens to each side, its own time outlined."""
    if sound.picture is None or sound.span is None or not sound.seconds:
        return None
    try:
        with Image.open(sound.picture) as opened:
            whole = opened.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):  # told by its time alone
        return None
    begin, end = sound.span
    around = SOUND_CONTEXT * (end - begin)
    low, high = max(0.0, begin - around), min(sound.seconds, end + around)
    box = [round(whole.width * time / sound.seconds) for time in (low, high)]
    crop = whole.crop((box[0], 0, max(box[1], box[0] + 1), whole.height)).resize((SIDE, SIDE))
    left, right = (SIDE * (time - low) / (high - low) for time in (begin, end))
    ImageDraw.Draw(crop).rectangle((left, 0, right - 1, SIDE - 1), outline=OUTLINE, width=2)
    return crop


def _crop(patch: PatchExemplar) -> Image.Image | None:
    """One patch with its surroundings, `SIDE` pixels square, the patch itself outlined."""
    try:
        around = patch.crop(CONTEXT)
    except ExemplarsError:  # its token is told by place, as where no picture was kept
        return None
    if around is None:
        return None
    (row, column), (rows, columns) = patch.cell, patch.grid
    top, left = min(row, CONTEXT), min(column, CONTEXT)
    high, wide = (min(size, place + CONTEXT + 1) - max(0, place - CONTEXT) for size, place in
                  ((rows, row), (columns, column)))  # fmt: skip
    crop = around.resize((SIDE, SIDE), Image.Resampling.NEAREST if around.width < SIDE else Image.Resampling.LANCZOS)
    box = (left * SIDE / wide, top * SIDE / high, (left + 1) * SIDE / wide - 1, (top + 1) * SIDE / high - 1)
    ImageDraw.Draw(crop).rectangle(box, outline=OUTLINE, width=2)
    return crop
