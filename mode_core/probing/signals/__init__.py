"""What ranks the vision tokens of a sample: a small file a signal, and a row here with all that is said about it.

All of them are measured in the same pass of the model. `none` (every vision token is key) needs no measuring. The
table is read without torch; a signal's own file is imported when it is first measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING

from mode_core.modalities import UNRANKED

if TYPE_CHECKING:
    from mode_core.probing.signals.base import AttentionSignal, FeatureSignal


@dataclass(frozen=True)
class Signal:
    """One signal in words, and where the class stands that computes it ("module:Class").

    `title` and `short` are its names on the screen, `score` what a higher value means, `source` where it is from.
    """

    name: str
    title: str
    short: str
    score: str
    source: str
    home: str = ""

    @cached_property
    def measure(self) -> AttentionSignal | FeatureSignal:
        """What computes it, from attention (`row_weights`) or from features (`scores`)."""
        module, _, name = self.home.partition(":")
        return getattr(import_module(module), name)()


# fmt: off
_ROWS = (
    Signal("text_attention", "Attention from text (the paper's)", "attention from text",
           "mean attention that the sample's text pays it, in each layer", "MODE, arXiv 2606.17118 §4",
           f"{__name__}.text_attention:TextAttention"),
    Signal("judge_layer_attention", "Attention at one early layer", "one early layer",
           "the same at decoder layer 2, for all layers", "option of MODE's released code; FastV, arXiv 2403.06764",
           f"{__name__}.judge_layer_attention:JudgeLayerAttention"),
    Signal("rater_attention", "Attention from rater text tokens", "rater tokens",
           "the same from those text tokens alone that relate to the picture", "SparseVLM, arXiv 2410.04417",
           f"{__name__}.rater_attention:RaterAttention"),
    Signal("duplication", "Unlike its neighbours", "unlike neighbours",
           "1 − largest cosine similarity to another vision token", "the family of DART and VisionZip",
           f"{__name__}.duplication:Duplication"),
    Signal("diversity", "Greedy diversity", "greedy diversity",
           "how early a greedy choice of unlike tokens takes it", "DivPrune", f"{__name__}.diversity:Diversity"),
)
NO_SIGNAL = Signal(UNRANKED, "None: all vision tokens are key", "none", "all vision tokens are key", "raw frequency")
# fmt: on
SIGNALS: dict[str, Signal] = {signal.name: signal for signal in _ROWS}
