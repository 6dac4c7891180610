"""What ranks the vision tokens of a sample: one small file a signal, chosen by name.

All of them are measured in the same pass of the model. `none` (every vision token is key) needs no measuring.
"""

from mode_core.probing.signals.base import AttentionSignal, FeatureSignal, Signal, View
from mode_core.probing.signals.diversity import Diversity
from mode_core.probing.signals.duplication import Duplication
from mode_core.probing.signals.judge_layer_attention import JudgeLayerAttention
from mode_core.probing.signals.rater_attention import RaterAttention
from mode_core.probing.signals.text_attention import TextAttention

SIGNALS: dict[str, Signal] = {
    "text_attention": TextAttention(),
    "judge_layer_attention": JudgeLayerAttention(),
    "rater_attention": RaterAttention(),
    "duplication": Duplication(),
    "diversity": Diversity(),
}

__all__ = ["SIGNALS", "AttentionSignal", "FeatureSignal", "Signal", "View"]
