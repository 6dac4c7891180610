"""What methods, signals, modalities, scopes, units and banks are called on every page; a name that is not known stands
for itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mode_core.importance import METHODS
from mode_core.modalities import ALL, AUDIO_TOKENS, TEXT_TOKENS, VISION_TOKENS
from mode_core.probing.signals import NO_SIGNAL, SIGNALS

if TYPE_CHECKING:
    from dashboard.charts.grids import Axes

ON = {
    TEXT_TOKENS: "on text",
    VISION_TOKENS: "on pictures",
    AUDIO_TOKENS: "on sounds",
}  # modality -> where a KL was measured, in the order of the screen
VERDICTS = {"better": "surely better", "worse": "surely worse", "level": "not told apart"}
ITEMS = {
    ALL: "all items",
    TEXT_TOKENS: "text-only items",
    VISION_TOKENS: "items with a picture",
    AUDIO_TOKENS: "items with a sound",
}
SCOPES = {"bank": "Each layer", "model": "Whole model"}
UNITS = {
    "expert_projection": "Expert's half",
    "expert": "Expert",
    "projection": "Layer's half",
    "layer": "Layer",
}


def of_experts(split: bool) -> str:
    """What one entry of an allocation is: an expert, or one of the two halves that may have widths of their own."""
    return "halves of experts" if split else "experts"


def signal(name: str) -> str:
    """A redundancy signal in words."""
    known = SIGNALS | {NO_SIGNAL.name: NO_SIGNAL}
    return known[name].title if name in known else name.replace("_", " ")


def short_signal(name: str) -> str:
    """The same in a word or two: for axes."""
    return SIGNALS[name].short if name in SIGNALS else name.replace("_", " ")


def method(name: str) -> str:
    """An importance method in words: the same in choices, chips, legends and sentences."""
    return METHODS[name].title if name in METHODS else name.replace("_", " ")


def banks(axes: Axes) -> list[str]:
    """Short names of the banks: 'Layer 3', with a letter where a layer holds several."""
    return [f"Layer {tick}" for tick in axes.ticks]
